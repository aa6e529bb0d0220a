"""Tasks of the processes whose logs are asked: each ends in a way of its own."""

from __future__ import annotations

import threading
from pathlib import Path

from taskflow import Retry, TaskContext, task


@task
def quick(n: int = 1) -> int:
    return n


@task(priority="low")
def slow() -> str:
    threading.Event().wait(0.05)
    return "done"


@task
def broken(code: int) -> None:
    raise ValueError(f"no such order: {code}")


@task(max_retries=2)
def flaky(ctx: TaskContext) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("the other side hung up")
    if ctx.attempt == 2:
        raise Retry("asked to come back", delay=0.01)
    return "at last"


@task
def patient(ctx: TaskContext) -> None:
    """Until it is cancelled."""
    while not ctx.cancelled:
        threading.Event().wait(0.01)


@task
def hold(marker: str) -> None:
    """Tells that it runs, and never ends; only the first time."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        threading.Event().wait()
