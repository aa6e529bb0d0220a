"""The tasks of the crash tests. Each leaves a trace outside of TaskFlow: one line per attempt, in a file."""

from __future__ import annotations

import os
import threading

from taskflow import Reject, RetryPolicy, TaskContext, task
from tests.acceptance.crash.load import EFFECTS

_SOON = RetryPolicy(base_seconds=0.02)


class _Effects:
    """Opened at the first use, so that every process has its own description of the file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None

    def add(self, line: str) -> None:
        """Appended whole, whatever other processes write (O_APPEND, one write)."""
        with self._lock:
            if self._descriptor is None:
                flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
                self._descriptor = os.open(os.environ[EFFECTS], flags, 0o666)
        os.write(self._descriptor, f"{line}\n".encode())


effects = _Effects()


def _happened(ctx: TaskContext) -> None:
    effects.add(f"{ctx.task_id} {ctx.attempt}")


@task("crash.add")
def add(ctx: TaskContext, a: int, b: int) -> int:
    _happened(ctx)
    return a + b


@task("crash.large")
def large(ctx: TaskContext, text: str) -> str:
    """Its arguments and its result are over the inline limit of these tests."""
    _happened(ctx)
    return text.upper()


@task("crash.slow")
def slow(ctx: TaskContext, seconds: float) -> str:
    """Long enough to be killed in the middle now and then."""
    _happened(ctx)
    threading.Event().wait(seconds)
    return "slow"


@task("crash.coroutine")
async def coroutine(ctx: TaskContext) -> str:
    _happened(ctx)
    return "coroutine"


@task("crash.flaky", max_retries=3, retry_policy=_SOON)
def flaky(ctx: TaskContext) -> int:
    _happened(ctx)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return ctx.attempt


@task("crash.bad", max_retries=3)
def bad(ctx: TaskContext) -> None:
    _happened(ctx)
    raise Reject("never works")
