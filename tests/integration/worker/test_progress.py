"""What running handlers report, and how leases are kept meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskflow.core.context import TaskContext
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import HeartbeatResult
from tests.integration.worker.engine import Engine, Gate, wait_for


def test_progress_is_visible_while_the_handler_runs(engine: Engine, gate: Gate) -> None:
    @engine.handler
    def report(ctx: TaskContext) -> None:
        ctx.progress(40, "half way")
        gate.pass_through()

    task_id = engine.submit("report")
    gate.wait_for()
    wait_for(lambda: engine.get(task_id).progress == 40, "progress is stored")
    assert engine.get(task_id).progress_message == "half way"


def test_many_reports_become_few_writes_and_the_last_one_is_kept(engine: Engine) -> None:
    @engine.handler
    def busy(ctx: TaskContext) -> None:
        for step in range(10_000):
            ctx.progress(step / 100, f"step {step}")

    task_id = engine.submit("busy")
    task = engine.final(task_id)
    assert (task.progress, task.progress_message) == (99.99, "step 9999")
    seconds = (task.duration_ms or 0) / 1_000
    assert 1 <= engine.events(task_id).count("task.progress") <= 2 + 4 * (seconds + 1)


def test_what_a_heartbeat_still_writes_is_not_written_over_what_was_reported_last(
    engine: Engine,
) -> None:
    heartbeat = engine.runtime.execution.heartbeat
    older_on_its_way, older_written, newer_written = (threading.Event() for _ in range(3))

    def late(attempts: Any, progress: Any) -> HeartbeatResult:
        if threading.current_thread().name == "taskflow-heartbeat":
            older_on_its_way.set()
            newer_written.wait(0.5)  # is not set if the newer one is kept waiting meanwhile
            result = heartbeat(attempts, progress)
            older_written.set()
        else:
            result = heartbeat(attempts, progress)
            newer_written.set()
            older_written.wait(0.5)
        return result

    engine.runtime.execution.heartbeat = late  # type: ignore[method-assign]

    @engine.handler
    def report(ctx: TaskContext) -> None:
        ctx.progress(50, "half way")
        assert older_on_its_way.wait(20)
        ctx.progress(100, "done")

    task = engine.run("report")
    assert (task.progress, task.progress_message) == (100, "done")


@pytest.mark.parametrize(
    ("percent", "message"), [(-1, None), (100.1, None), (float("nan"), None), (1, "x" * 501)]
)
def test_impossible_progress_is_refused(
    engine: Engine, percent: float, message: str | None
) -> None:
    @engine.handler
    def report(ctx: TaskContext) -> None:
        ctx.progress(percent, message)

    error = engine.run("report").error
    assert error is not None
    assert (error.type, error.message.startswith("progress must be") or "500" in error.message) == (
        "ValueError",
        True,
    )


def test_any_text_can_be_a_progress_message(engine: Engine) -> None:
    @engine.handler
    def report(ctx: TaskContext) -> None:
        ctx.progress(1, "NUL \x00 and surrogate \ud800")

    task = engine.run("report")
    assert task.status is TaskStatus.COMPLETED
    assert task.progress_message == "NUL ␀ and surrogate ?"


def test_the_lease_of_a_long_attempt_is_kept(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(lease_seconds=1.0)
    engine.handler(gate.pass_through, name="long")
    beats = threading.Semaphore(0)
    heartbeat = engine.runtime.execution.heartbeat

    def counted(*args: Any) -> HeartbeatResult:
        result = heartbeat(*args)
        beats.release()
        return result

    engine.runtime.execution.heartbeat = counted  # type: ignore[method-assign]
    engine.worker.start()
    task_id = engine.submit("long")
    gate.wait_for()
    for _ in range(5):  # more than one lease
        assert beats.acquire(timeout=10)
    engine.runtime.recovery.run_once()
    assert engine.get(task_id).status is TaskStatus.RUNNING
    gate.open()
    task = engine.final(task_id)
    assert (task.status, task.attempt) == (TaskStatus.COMPLETED, 1)


def test_no_heartbeat_while_nothing_runs(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(lease_seconds=1.0)
    calls: list[int] = []
    heartbeat = engine.runtime.execution.heartbeat

    def counted(attempts: Any, progress: Any) -> HeartbeatResult:
        calls.append(len(attempts))
        return heartbeat(attempts, progress)

    engine.runtime.execution.heartbeat = counted  # type: ignore[method-assign]
    engine.worker.start()
    assert engine.works()
    engine.wait_until_idle()
    calls.clear()  # of a machine that took more than a beat for it
    threading.Event().wait(0.8)  # two beats
    assert calls == []


def test_a_store_that_is_away_for_a_beat_costs_nothing(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(lease_seconds=1.0)
    heartbeat = engine.runtime.execution.heartbeat
    refused, beats = threading.Semaphore(1), threading.Semaphore(0)

    def unreliable(*args: Any) -> HeartbeatResult:
        if refused.acquire(blocking=False):
            raise StoreUnavailableError("locked by somebody else")
        result = heartbeat(*args)
        beats.release()
        return result

    engine.runtime.execution.heartbeat = unreliable  # type: ignore[method-assign]

    @engine.handler
    def report(ctx: TaskContext) -> None:
        ctx.progress(40)
        gate.pass_through()

    engine.worker.start()
    task_id = engine.submit("report")
    assert beats.acquire(timeout=10)
    wait_for(lambda: engine.get(task_id).progress == 40, "progress is stored")
    gate.open()
    assert engine.final(task_id).status is TaskStatus.COMPLETED


def test_an_attempt_whose_lease_was_lost_is_ended_and_its_outcome_dropped(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(lease_seconds=1.0, max_crashes=5)
    seen: list[bool] = []

    @engine.handler
    def slow(ctx: TaskContext) -> str:
        if ctx.attempt > 1:
            return "the second attempt"
        gate.arrive()
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                time.sleep(0.001)
        finally:
            seen.append(ctx.cancelled)
        return "the first attempt"

    engine.worker.start()
    task_id = engine.submit("slow")
    gate.wait_for()
    take_over(engine, task_id)
    task = engine.final(task_id)
    assert (task.result, task.attempt, task.crash_count) == ("the second attempt", 2, 1)
    wait_for(lambda: seen == [True], "the first attempt is told")
    assert engine.works()


def take_over(engine: Engine, task_id: str) -> None:
    """As if this worker had been given up for dead."""
    recovery = engine.runtime.recovery
    liveness = engine.runtime.liveness
    dead = liveness.dead
    liveness.dead = lambda ids: list(ids)  # type: ignore[method-assign, assignment]
    try:
        assert recovery.run_once() == 1
    finally:
        liveness.dead = dead  # type: ignore[method-assign]
    assert engine.get(task_id).crash_count == 1
