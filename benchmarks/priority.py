"""A high-priority task behind 20,000 low ones, and a quiet tenant beside one that floods: how long they wait.

On the local queue; the first also on SQS (MiniStack) with PostgreSQL. Which tenant SQS serves first is AWS's own (fair
queues), which no emulator has.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Lock

from benchmarks import embedded
from benchmarks.figures import Effort, Figure, command
from benchmarks.postgresql.databases import database, server
from benchmarks.sqs import surroundings as sqs
from benchmarks.surroundings import fresh, home
from taskflow import TaskFlow, task
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.garbage import settle

_BACKLOG = 20_000
_ROUNDS = 8
_WORKERS = 4
_QUIET, _NOISY = "quiet", "noisy"
_EVERY_SECONDS = 0.02
_WARM_UP = 10  # a task that never ran here waits for a free slot, whoever's it is
_QUIET_TASKS = 150
_TURNS = 7  # alone and beside the flood: a p95 of 150 waits is eight of them, and one stall of the disk tells
_PATIENCE_SECONDS = 60.0
_started: dict[int, float] = {}
_lock = Lock()


@task(name="priority.low")
def _low() -> None:
    """A millisecond of somebody else's time: what most background tasks are."""
    time.sleep(0.001)


@task(name="priority.noted")
def _noted(number: int) -> None:
    with _lock:
        _started[number] = time.perf_counter()


def behind_a_backlog(running: Callable[[], AbstractContextManager[TaskFlow]]) -> list[float]:
    """Seconds until each of some high-priority tasks starts, submitted one at a time while the backlog shrinks."""
    low = Submission("priority.low", options=SubmitOptions.of(priority="low"))
    waits = []
    with running() as app:
        app.stop_workers()
        for _ in range(_BACKLOG // 1_000):
            app.submit_many([low] * 1_000)
        app.start_workers()
        for number in range(_ROUNDS):
            began = time.perf_counter()
            app.submit_task(
                Submission("priority.noted", [number], {}, SubmitOptions.of(priority="high"))
            )
            waits.append(_when(number) - began)
        backlog = app.runtime.stores.insights.counts(None).active_by_priority
        assert sum(backlog.values()) > 0, "the backlog was gone before the last of them"
    return waits


def of_a_quiet_tenant(directory: Path, *, flooded: bool) -> list[float]:
    """Seconds until each of its tasks starts, submitted at a steady pace, alone or beside 20,000 of another tenant; the
    first ones do not count."""
    with embedded.running(directory, workers=_WORKERS) as app:
        settle()  # as `taskflow dev` and `taskflow worker` do once they have started
        submissions = app.runtime.submissions
        app.stop_workers()
        for _ in range(_BACKLOG // 1_000 if flooded else 0):
            submissions.submit(_NOISY, [Submission("priority.low")] * 1_000)
        app.start_workers()
        waits = []
        for number in range(_WARM_UP + _QUIET_TASKS):
            began = time.perf_counter()
            submissions.submit_one(_QUIET, Submission("priority.noted", [number]))
            waits.append(_when(number) - began)
            time.sleep(_EVERY_SECONDS)
        backlog = app.runtime.stores.insights.counts(_NOISY).active_by_priority
        assert not flooded or sum(backlog.values()) > 0, (
            "the flood was over before the last of them"
        )
        app.stop_workers()
    return waits[_WARM_UP:]


def _when(number: int) -> float:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while number not in _started:
        if time.monotonic() > deadline:
            raise TimeoutError("it never started")
        time.sleep(0.0005)
    return _started[number]


def _local(directory: Path) -> list[float]:
    return behind_a_backlog(partial(embedded.running, directory, workers=_WORKERS))


def _on_sqs(url: str) -> list[float]:
    return behind_a_backlog(partial(sqs.running, url, workers=_WORKERS))


def _p95_ms(*, flooded: bool) -> float:
    with home() as directory:
        waits = fresh(partial(of_a_quiet_tenant, flooded=flooded), directory)
    return statistics.quantiles(waits, n=20)[-1] * 1_000


def measure(_effort: Effort, _stored: Path | None = None) -> list[Figure]:
    with home() as directory:
        local = fresh(_local, directory)
    with server() as server_url, sqs.emulator(), database(server_url) as url:
        distributed = fresh(_on_sqs, url)
    p95 = [(_p95_ms(flooded=False), _p95_ms(flooded=True)) for _ in range(_TURNS)]
    ratios = tuple(beside / alone for alone, beside in p95)
    alone, beside = map(statistics.median, zip(*p95, strict=True))
    return [
        Figure("high behind 20,000 low, local", max(local), "s", at_most=1, note="the longest"),
        Figure("high behind 20,000 low, SQS", max(distributed), "s", at_most=1, note="the longest"),
        Figure(
            "quiet tenant beside a flood, p95",
            statistics.median(ratios),
            "×",
            at_most=2,
            runs=ratios,
            note=f"{alone:.1f} → {beside:.1f} ms",
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
