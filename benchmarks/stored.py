"""Homes with many completed tasks, made once and kept: what the growth figures are measured on.

The rows are written by the store itself (insert, claim, finish), on a clock of their own that spreads them over the
last days, so they are what a system that has run for long would hold. The files are kept in the temporary directory,
by the number of tasks and the version of the schema.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import Progress

import benchmarks.handlers  # noqa: F401 - registers the task
from taskflow.adapters.metadata.migrations import versions
from taskflow.bootstrap import Runtime, build
from taskflow.core.submission import Submission
from taskflow.core.task import DEFAULT_TENANT
from taskflow.settings import load

_BATCH = 1_000
_DAYS = 10  # well within the retention
_DAY_US = 86_400 * 1_000_000


class _PastClock:
    """Ends now; `step` moves it."""

    def __init__(self, batches: int) -> None:
        self._step_us = _DAYS * _DAY_US // batches
        self._now_us = time.time_ns() // 1_000 - _DAYS * _DAY_US

    def step(self) -> None:
        self._now_us += self._step_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._now_us / 1_000_000


def home_with(tasks: int) -> Path:
    """A home that holds ``tasks`` completed tasks. Do not run anything on it: copy it."""
    directory = Path(tempfile.gettempdir()) / "taskflow-benchmarks" / f"{tasks}-{_schema_version()}"
    if not (directory / "complete").exists():
        _make(directory, tasks)
        (directory / "complete").touch()
    return directory


def _make(directory: Path, tasks: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in directory.glob("taskflow.db*"):
        file.unlink()
    clock = _PastClock(-(-tasks // _BATCH))
    settings = load(home=directory, database_url="", tasks=(), max_queue_size=0, num_workers=1)
    runtime = build(settings, clock=clock)
    try:
        with Progress(disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task(f"storing {tasks:,} tasks", total=tasks)
            for start in range(0, tasks, _BATCH):
                _complete(runtime, min(_BATCH, tasks - start))
                clock.step()
                progress.advance(task, _BATCH)
    finally:
        runtime.close()


def _complete(runtime: Runtime, count: int) -> None:
    submissions = [Submission("noop", (n,)) for n in range(count)]
    runtime.submissions.submit(DEFAULT_TENANT, submissions)
    done = 0
    while done < count:
        deliveries = runtime.queue.dequeue(max_messages=count, timeout_seconds=0)
        attempts = runtime.execution.start(deliveries)
        runtime.execution.finish(
            [(a, runtime.execution.succeeded(a, n, 0.1)) for n, a in enumerate(attempts)]
        )
        done += len(attempts)


def _schema_version() -> str:
    digest = hashlib.sha256()
    for directory in versions.__path__:
        for file in sorted(Path(directory).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
