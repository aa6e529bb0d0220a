"""The child process of `executor="process"`: takes one attempt after another over its socket until that closes."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import queue
import resource
import runpy
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Mapping
from typing import Any, BinaryIO

import orjson

from taskflow.core import jsontext, trace
from taskflow.core.errors import PayloadTooLargeError
from taskflow.core.registry import Handler, registry
from taskflow.core.results import result_text
from taskflow.worker import remote_errors
from taskflow.worker.child_artifacts import ChildArtifacts, Questions
from taskflow.worker.child_logs import ToParent
from taskflow.worker.context import task_log
from taskflow.worker.exits import as_error
from taskflow.worker.progress import checked_progress

IN_CHILD = "__taskflow_child__"  # module that exists only in child processes
_PIECE_BYTES = 65_536


def main(socket_fd: int) -> None:
    """Never returns while the parent lives."""
    sys.modules[IN_CHILD] = types.ModuleType(IN_CHILD)
    connection = socket.socket(fileno=socket_fd)
    connection.set_inheritable(False)  # what handlers start must not keep it open
    _Child(connection).work()


def is_child_process() -> bool:
    return IN_CHILD in sys.modules


class _Child:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._main_path: str | None = None
        self.cancelled = False
        self.questions = Questions(self.send)
        self._logs = ToParent(self.send)
        threading.Thread(target=self._listen, name="taskflow-parent", daemon=True).start()

    def send(self, body: bytes = b"", **message: Any) -> None:
        line = orjson.dumps({**message, "body_bytes": len(body)}) + b"\n"
        with self._sending:
            self._connection.sendall(line)
            self._connection.sendall(body)

    def work(self) -> None:
        while True:
            request = self._requests.get()
            self.send(type="accepted")
            retire = self._carry_out(request)
            sys.stdout.flush()
            sys.stderr.flush()
            if retire:
                os._exit(0)

    def _listen(self) -> None:
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    message = orjson.loads(line)
                    if message["type"] == "cancel":
                        self.cancelled = True
                    elif message["type"] == "answer":
                        self.questions.answered(message, _body(lines, message["body_bytes"]))
                    else:
                        self.cancelled = False
                        self._requests.put(message)
        finally:
            # The parent is gone, nobody waits for what is running here. A parent that died with something of ours
            # unread ends the connection with an error instead of an end of file.
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _carry_out(self, request: dict[str, Any]) -> bool:
        """Answer one request; True when this process has had its day."""
        pid = os.getpid()
        needed_too_much = False
        answer: dict[str, Any]
        self._logs.begin(request["bound"], request["log_levels"])
        try:
            handler = self._handler(request["handler"])
            args, kwargs = jsontext.loads(request["arguments"])
            call_args, call_kwargs = handler.signature.call_arguments(args, kwargs)
            trace.CURRENT.set(request["context"]["traceparent"])
            if handler.signature.context_parameter is not None:
                context = _ChildContext(self, request)
                handler.signature.give_context(call_args, call_kwargs, context)
            limit = _Memory(request["memory_bytes"])
            self.send(type="running")
            try:
                with limit:
                    value = handler.function(*call_args, **call_kwargs)
                    if inspect.iscoroutine(value):
                        value = asyncio.run(_awaited(value))
            except MemoryError as exc:
                needed_too_much = True
                raise MemoryError(limit.explanation) from exc
            finally:
                if os.getpid() != pid:
                    os._exit(0)  # the child of a fork in the handler
            answer = {"type": "result", "result": _result(value, request["max_result_bytes"])}
        except BaseException as exc:  # noqa: BLE001 - whatever it is belongs into the answer
            answer = {"type": "error", "error": remote_errors.to_message(as_error(exc))}
        self.send(**answer, retires=needed_too_much)
        return needed_too_much

    def _handler(self, where: Mapping[str, str]) -> Handler[..., Any]:
        module_name = where["module"]
        if module_name == "__main__":
            module = self._main(where)
        else:
            module = importlib.import_module(module_name)
        handler = registry.find(where["task"])
        if handler is not None and handler.function.__qualname__ == where["qualname"]:
            return handler
        found: Any = module
        for part in where["qualname"].split("."):
            found = getattr(found, part, None)
        if isinstance(found, Handler):
            return found
        raise ImportError(
            f"{module_name}.{where['qualname']} is not a task when {module_name} is imported in a child process"
        )

    def _main(self, where: Mapping[str, str]) -> types.ModuleType:
        """The parent's script, imported under another name as `multiprocessing` does, so that its guard holds."""
        if "__mp_main__" not in sys.modules:
            module = types.ModuleType("__mp_main__")
            sys.modules["__mp_main__"] = module
            try:
                if where["main_module"]:
                    content = runpy.run_module(
                        where["main_module"], run_name="__mp_main__", alter_sys=True
                    )
                else:
                    content = runpy.run_path(where["main_path"], run_name="__mp_main__")
            except BaseException:
                del sys.modules["__mp_main__"]
                raise
            module.__dict__.update(content)
            sys.modules["__mp_main__"] = module
        return sys.modules["__mp_main__"]


def _body(lines: BinaryIO, size: int) -> bytes | None:
    """What follows the line of a message. None: there is no room for it within the memory of the attempt."""
    try:
        return lines.read(size)  # takes the room first, then reads
    except MemoryError:
        while size > 0 and (passed_over := len(lines.read(min(size, _PIECE_BYTES)))):
            size -= passed_over
        return None


async def _awaited(coroutine: Any) -> Any:
    return await coroutine


def _result(value: Any, max_bytes: int) -> str:
    text = result_text(value)
    if (size := len(text.encode())) > max_bytes:
        raise PayloadTooLargeError(
            f"result: {size} bytes, more than TASKFLOW_MAX_PAYLOAD_BYTES ({max_bytes})"
        )
    return text


class _Memory:
    """Limits the address space while the handler runs: so much beyond what the interpreter and its modules have."""

    def __init__(self, extra_bytes: int) -> None:
        self._extra_bytes = extra_bytes
        self._before = resource.getrlimit(resource.RLIMIT_AS)
        self.explanation = (
            f"the attempt needed more than {extra_bytes / 2**20:.0f} MiB of memory"
            " (TASKFLOW_PROCESS_MEMORY_BYTES, or memory_mb of the task's resources)"
        )

    def __enter__(self) -> None:
        if self._extra_bytes:
            soft, hard = self._before
            wanted = _address_space_bytes() + self._extra_bytes
            bounds = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
            resource.setrlimit(
                resource.RLIMIT_AS, (min(wanted, *bounds) if bounds else wanted, hard)
            )

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_AS, self._before)


def _address_space_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - also called when memory is short
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0  # no /proc: the limit counts the interpreter in


class _ChildContext:
    """The `TaskContext` of a handler in a child process; what it says goes to the parent."""

    def __init__(self, child: _Child, request: Mapping[str, Any]) -> None:
        self.task_id: str = request["context"]["task_id"]
        self.tenant_id: str = request["context"]["tenant_id"]
        self.task: str = request["context"]["task"]
        self.attempt: int = request["context"]["attempt"]
        self.traceparent: str | None = request["context"]["traceparent"]
        self.metadata: Mapping[str, Any] = request["context"]["metadata"]
        self.request_id: str | None = request["bound"]["request_id"]
        self.log = task_log(self)
        self.artifacts = ChildArtifacts(child.questions, request)
        self._child = child
        self._ends_at: float = time.monotonic() + request["timeout_seconds"]

    @property
    def cancelled(self) -> bool:
        return self._child.cancelled

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def progress(self, percent: float, message: str | None = None) -> None:
        percent, message = checked_progress(percent, message)
        self._child.send(type="progress", percent=percent, message=message)
