"""Calls handlers in a child process: starts it when first needed, listens to it, replaces it when it dies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskflow.core import jsontext
from taskflow.core.errors import WorkerCrashedError
from taskflow.worker import child_logs
from taskflow.worker.calls import Abandoned, Result
from taskflow.worker.child_artifacts import answer_to
from taskflow.worker.child_process import ChildProcess
from taskflow.worker.context import bound_fields, metadata_of
from taskflow.worker.progress import checked_progress
from taskflow.worker.remote_errors import from_message
from taskflow.worker.run import Run

if TYPE_CHECKING:
    from taskflow.worker.pool import Pool
    from taskflow.worker.slot import Slot

START_SECONDS = (
    30.0  # for the interpreter and the import of the task's module, on top of the task's timeout
)
_MIB = 2**20


class ChildCall:
    """One per slot; so there are at most as many children as slots. Its process is used for many attempts."""

    cleans_up_on_cancel = False

    def __init__(self, slot: Slot, pool: Pool) -> None:
        self._slot = slot
        self._pool = pool
        self._process: ChildProcess | None = None

    def carry_out(self, run: Run, args: Sequence[Any], kwargs: dict[str, Any]) -> Result:
        try:
            answer = self._ask(run, self._request(run, args, kwargs))
            if answer is None:
                return None, None
            if answer["type"] == "result":
                return jsontext.loads(answer["result"]), None
            if answer["retires"]:
                self.close()
            return None, _raised(from_message(answer["error"]))
        except Exception as exc:  # noqa: BLE001 - unimportable handlers, processes that die or talk nonsense
            self.close()
            return None, exc
        finally:
            self._slot.close()

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _ask(self, run: Run, request: dict[str, Any]) -> dict[str, Any] | None:
        """The child's answer; None when the attempt need not begin. Raises WorkerCrashedError."""
        while True:
            is_new = self._process is None
            process = self._process = self._process or ChildProcess()
            if not self._slot.open(self, run):
                return None
            process.send(request)
            if run.reason is not None:
                process.tell_cancelled()  # it came while the request was on its way
            if (answer := self._listen(process, run)) is not None:
                return answer
            died = process.how_it_died()
            self.close()
            if process.heard_since_request:
                raise WorkerCrashedError(f"the child process of the attempt died: {died}")
            if is_new:
                raise WorkerCrashedError(f"a child process could not be started: {died}")
            # It had died between two attempts, so this one has not begun: a new child takes it.

    def _listen(self, process: ChildProcess, run: Run) -> dict[str, Any] | None:
        """Until it has answered; None when it died."""
        while (message := process.receive()) is not None:
            match message["type"]:
                case "running":
                    self._slot.restart_timeout(run)
                case "progress":
                    run.progress = checked_progress(message["percent"], message["message"])
                    self._pool.heartbeat.progress_made()
                case "log":
                    child_logs.write(message)
                case "artifact":
                    artifacts = self._pool.execution.artifacts
                    process.reply(*answer_to(message, artifacts, run.attempt.task))
                case "result" | "error":
                    return message
        return None

    def _request(self, run: Run, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        task, handler, options = run.attempt.task, run.attempt.handler, self._pool.options
        assert handler is not None
        memory_mb = handler.declared.resources.get("memory_mb")
        return {
            "type": "attempt",
            "handler": {"task": handler.name, **_importable(handler.function)},
            # As submitted when it is at hand; the child converts and checks it as this process has done.
            "arguments": task.arguments or handler.signature.to_json(args, kwargs),
            "context": {
                "task_id": task.task_id,
                "tenant_id": task.tenant_id,
                "task": task.task,
                "attempt": task.attempt,
                "traceparent": task.traceparent,
                "metadata": metadata_of(task),
            },
            "bound": bound_fields(task),
            "log_levels": child_logs.levels(),
            "timeout_seconds": task.timeout_seconds,
            "memory_bytes": options.process_memory_bytes
            if memory_mb is None
            else int(memory_mb * _MIB),
            "max_result_bytes": options.max_payload_bytes,
            "max_artifact_bytes": self._pool.execution.artifacts.max_bytes,
        }

    # --- under the slot's lock --------------------------------------------------------------------

    def tell(self) -> None:
        if self._process is not None:
            self._process.tell_cancelled()

    def can_be_interrupted(self) -> bool:
        return True

    def interrupt(self) -> None:
        if self._process is not None:
            self._process.kill()

    def abandon(self) -> Abandoned:
        return Abandoned.NOTHING  # it was killed, and the slot hears nothing of it any more


def _importable(function: Any) -> dict[str, str]:
    """Where a child process finds it. Raises ImportError when it cannot."""
    module, qualname = function.__module__, function.__qualname__
    name = f"{module}.{qualname}"
    if "<locals>" in qualname:
        raise ImportError(
            f"{name} is defined inside a function; executor='process' needs one of a module"
        )
    where = {"module": module, "qualname": qualname, "main_path": "", "main_module": ""}
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        if spec is not None:
            where["main_module"] = spec.name
        elif (path := getattr(main, "__file__", None)) is not None:
            where["main_path"] = path
        else:
            raise ImportError(
                f"{name} was defined at a prompt or with -c; executor='process' needs a module or script to import"
            )
    return where


def _raised(exc: BaseException) -> BaseException:
    """With a traceback, which only raising makes."""
    try:
        raise exc
    except BaseException as raised:  # noqa: BLE001 - just raised
        return raised
