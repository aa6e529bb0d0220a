"""An embedded TaskFlow for a measurement, and the moments it needs."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskflow import TaskFlow
from taskflow.settings import load

_LOOK_SECONDS = 0.002


@contextmanager
def running(directory: Path, *, workers: int) -> Iterator[TaskFlow]:
    """Settings as they come, except the home and the number of worker threads."""
    import benchmarks.handlers  # noqa: F401 - registers the task

    settings = load(
        home=directory, database_url="", tasks=(), max_queue_size=0, num_workers=workers
    )
    with TaskFlow(settings) as app:
        app.submit("noop", 0).result(timeout=60)
        gc.collect()
        yield app


def finished(app: TaskFlow) -> int:
    """Tasks whose result was committed since the app started. Counted in memory: looking costs the store nothing."""
    total = app.runtime.counters.snapshot()["totals"]["succeeded"]
    assert isinstance(total, int)
    return total


def wait_for(app: TaskFlow, total: int, *, timeout_seconds: float = 300.0) -> None:
    """Until ``total`` tasks are `finished`."""
    deadline = time.monotonic() + timeout_seconds
    while finished(app) < total:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{finished(app)} of {total} tasks finished")
        time.sleep(_LOOK_SECONDS)


def drain(app: TaskFlow) -> None:
    """Run whatever waits."""
    app.start_workers()
    while any(app.runtime.stores.insights.counts(None).active_by_priority.values()):
        time.sleep(0.05)
