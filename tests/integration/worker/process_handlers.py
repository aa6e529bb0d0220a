"""Handlers for `executor="process"`: they must be found in a module by the child processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from taskflow.core import trace
from taskflow.core.context import TaskContext
from taskflow.core.registry import Handler, Registry, TaskOptions
from taskflow.core.retry import Reject, Retry
from taskflow.logs import get_logger

_handlers: list[Handler[..., Any]] = []


def in_process(**declared: Any) -> Callable[[Callable[..., Any]], Handler[..., Any]]:
    def add(function: Callable[..., Any]) -> Handler[..., Any]:
        handler = Registry().add(function, declared=TaskOptions(executor="process", **declared))
        _handlers.append(handler)
        return handler

    return add


def add_to(registry: Registry) -> None:
    for handler in _handlers:
        registry.add(handler.function, declared=handler.declared)


class OrderError(Exception):
    def __init__(self, order: int, *, reason: str) -> None:  # cannot be made from a message
        super().__init__(f"order {order}: {reason}")


class ThrottledError(Exception):
    status_code = 429
    retry_after = 3_600.0


@in_process()
def process_id() -> int:
    return os.getpid()


@in_process()
def process_trace(ctx: TaskContext) -> list[str | None]:
    return [ctx.traceparent, trace.CURRENT.get()]


@in_process()
async def process_coroutine(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@in_process()
def hang_with_child(pids: str) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(f"{pids}.new").write_text(f"{os.getpid()} {other.pid}")
    os.rename(f"{pids}.new", pids)
    other.wait()


@in_process()
def kill_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


@in_process()
def exit_hard(code: int) -> None:
    os._exit(code)


@in_process()
def exit_politely() -> None:
    sys.exit("enough")


@in_process()
def hang_up() -> None:
    """Closes its side of the connection to the parent, whose number is the child's first argument."""
    with socket.socket(fileno=os.dup(int(sys.argv[1]))) as connection:
        connection.shutdown(socket.SHUT_WR)
    threading.Event().wait()


@in_process()
def eat_memory() -> int:
    return len(bytearray(2**31))


@in_process(resources={"memory_mb": 400})
def eat_memory_that_it_asked_for() -> int:
    return len(bytearray(2**28))


@in_process()
def raise_order_error() -> None:
    raise OrderError(17, reason="unpaid")


@in_process(never_retry_for=(OrderError,))
def raise_final_order_error() -> None:
    raise OrderError(17, reason="unpaid")


@in_process()
def raise_throttled() -> None:
    raise ThrottledError("slow down")


@in_process()
def ask_for_retry(path: str) -> str:
    """Fails once."""
    try:
        Path(path).touch(exist_ok=False)
    except FileExistsError:
        return "second time"
    raise Retry("not yet", delay=0.0, counts=False)


@in_process()
def reject() -> None:
    raise Reject("never")


@in_process()
def return_set() -> set[int]:
    return {1}


@in_process()
def print_megabytes() -> str:
    for _ in range(50):
        print("x" * 100_000)
        print("y" * 100_000, file=sys.stderr)
    return "printed"


@in_process()
def fork_and_return() -> int:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return os.getpid()


@in_process()
def report(ctx: TaskContext, *, steps: int) -> dict[str, Any]:
    for step in range(steps):
        ctx.progress(100 * (step + 1) / steps, f"step {step + 1}")
    ctx.log.info("reported", steps=steps)
    return {"attempt": ctx.attempt, "metadata": dict(ctx.metadata), "task": ctx.task}


@in_process()
def process_talks(level: str) -> None:
    logging.getLogger("somebody.else").log(
        logging.getLevelNamesMapping()[level], "from a %s", "process"
    )


@in_process()
def process_tells_of_an_error() -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("somebody.else").exception("caught \ud800", extra={"x": object()})
    warnings.warn("this is old", UserWarning, stacklevel=1)
    get_logger("taskflow.odd").info("odd.event", big=2**70, text="\ud800", thing={1})


class Answer(BaseModel):
    n: int
    when: timedelta = timedelta(seconds=5)


@in_process()
def process_answers(n: int) -> Answer:
    return Answer(n=n)


@in_process()
def until_cancelled(path: str, ctx: TaskContext) -> None:
    ctx.progress(1)
    while not ctx.cancelled:
        time.sleep(0.005)
    Path(path).write_text("noticed")


@in_process()
def ignore_cancellation(ctx: TaskContext) -> None:
    ctx.progress(1)
    with contextlib.suppress(BaseException):
        threading.Event().wait()
    threading.Event().wait()


def make_local() -> Handler[..., Any]:
    def local() -> None: ...

    return Registry().add(local, declared=TaskOptions(executor="process"))
