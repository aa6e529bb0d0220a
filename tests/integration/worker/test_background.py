"""The jobs that keep the promises while nobody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from taskflow.core.errors import StoreUnavailableError
from taskflow.worker.background import Background
from tests.integration.worker.engine import PATIENCE_SECONDS, Engine


class Job:
    """Stands in for a service where a fault must be injected."""

    def __init__(self, answer: Any = 60.0, *, faults: list[BaseException] | None = None) -> None:
        self.answer = answer
        self.faults = faults or []
        self.ran = threading.Semaphore(0)
        self.began_at: list[float] = []

    def run_once(self, goes_on: Callable[[], bool]) -> Any:
        self.began_at.append(time.monotonic())
        self.ran.release()
        if self.faults:
            raise self.faults.pop(0)
        return self.answer


@pytest.fixture
def jobs() -> dict[str, Job]:
    return {"relay": Job(), "recovery": Job(0), "retention": Job(0), "resending": Job(0)}


@pytest.fixture
def background(jobs: dict[str, Any]) -> Iterator[Background]:
    background = Background(**jobs, lease_seconds=3.0, monotonic=time.monotonic)
    yield background
    background.stop()


def test_every_job_runs_at_the_start(background: Background, jobs: dict[str, Job]) -> None:
    background.start()
    assert all(job.ran.acquire(timeout=PATIENCE_SECONDS) for job in jobs.values())


def test_the_relay_says_when_it_runs_again(background: Background, jobs: dict[str, Job]) -> None:
    jobs["relay"].answer = 0.01
    background.start()
    assert all(jobs["relay"].ran.acquire(timeout=PATIENCE_SECONDS) for _ in range(5))


def test_recovery_runs_several_times_per_lease(
    background: Background, jobs: dict[str, Job]
) -> None:
    background.start()
    assert all(jobs["recovery"].ran.acquire(timeout=PATIENCE_SECONDS) for _ in range(4))
    apart = [later - earlier for earlier, later in pairwise(jobs["recovery"].began_at)]
    assert 0.99 < min(apart) < 2  # of a lease of three seconds


def test_it_can_be_woken(background: Background, jobs: dict[str, Job]) -> None:
    background.start()
    for job in jobs.values():
        assert job.ran.acquire(timeout=PATIENCE_SECONDS)
    background.wake()
    assert jobs["relay"].ran.acquire(timeout=PATIENCE_SECONDS)
    assert not jobs["retention"].ran.acquire(blocking=False)


@pytest.mark.parametrize(
    "fault", [StoreUnavailableError("locked"), ZeroDivisionError("a fault of ours")]
)
def test_a_failing_job_is_repeated_and_holds_up_no_other(
    background: Background, jobs: dict[str, Job], fault: Exception
) -> None:
    jobs["relay"].answer = 0.01
    jobs["recovery"].faults = [fault]
    background.start()
    assert jobs["recovery"].ran.acquire(timeout=PATIENCE_SECONDS)
    assert all(jobs["relay"].ran.acquire(timeout=PATIENCE_SECONDS) for _ in range(5))
    assert jobs["recovery"].ran.acquire(timeout=PATIENCE_SECONDS)


class Endless(Job):
    """Has as many batches as it is let."""

    def run_once(self, goes_on: Callable[[], bool]) -> Any:
        self.ran.release()
        pause = threading.Event()
        while goes_on():
            pause.wait(0.01)


@pytest.mark.parametrize("name", ["relay", "recovery", "retention", "resending"])
def test_a_job_that_never_gets_done_holds_up_no_other(jobs: dict[str, Any], name: str) -> None:
    jobs[name] = Endless()
    background = Background(**jobs, lease_seconds=3.0, monotonic=time.monotonic)
    background.start()
    try:
        for job in jobs.values():
            assert job.ran.acquire(timeout=PATIENCE_SECONDS)
        background.wake()
        assert jobs["relay"].ran.acquire(timeout=PATIENCE_SECONDS)
        assert jobs["recovery"].ran.acquire(timeout=PATIENCE_SECONDS)
        assert jobs[name].ran.acquire(timeout=PATIENCE_SECONDS)
    finally:
        background.stop()


class Stuck(Job):
    """In one batch that takes very long."""

    def __init__(self) -> None:
        super().__init__(0)
        self.let_go = threading.Event()

    def run_once(self, goes_on: Callable[[], bool]) -> Any:
        self.ran.release()
        assert self.let_go.wait(60)
        return 0


def test_a_purge_that_takes_minutes_does_not_keep_a_due_task_from_the_queue(engine: Engine) -> None:
    runtime, purge = engine.runtime, Stuck()
    background = Background(
        runtime.relay,
        runtime.recovery,
        purge,  # type: ignore[arg-type]
        runtime.resending,
        lease_seconds=3.0,
        monotonic=time.monotonic,
    )
    engine.handler(lambda: "on time", name="later")
    background.start()
    try:
        assert purge.ran.acquire(timeout=PATIENCE_SECONDS)
        assert engine.run("later", delay=0.2).result == "on time"
    finally:
        purge.let_go.set()
        background.stop()


def test_it_stops_at_once_and_starts_again(background: Background, jobs: dict[str, Job]) -> None:
    took: list[float] = []
    for _ in range(5):
        background.start()
        for job in jobs.values():
            assert job.ran.acquire(timeout=PATIENCE_SECONDS)
        began = time.monotonic()
        background.stop()
        took.append(time.monotonic() - began)
    assert min(took) < 0.4  # longer than half a second it never waits


def test_a_delayed_task_reaches_the_worker(engine: Engine) -> None:
    background = Background.from_runtime(engine.runtime)
    background.start()
    try:
        engine.handler(lambda: "on time", name="later")
        assert engine.run("later", delay=0.2).result == "on time"
    finally:
        background.stop()
