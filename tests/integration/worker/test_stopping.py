"""Draining, releasing, and what is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from taskflow.core.context import TaskContext
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.task import TaskStatus
from taskflow.worker import worker
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import Engine, Gate, is_pending, wait_for


def test_an_idle_worker_stops_at_once(engine: Engine) -> None:
    took: list[float] = []
    for _ in range(5):
        engine.worker.start()
        assert engine.works()
        began = time.monotonic()
        engine.worker.stop()
        took.append(time.monotonic() - began)
    assert min(took) < 0.5


def test_no_thread_is_left_behind(make_engine: Callable[..., Engine]) -> None:
    before = set(threading.enumerate())
    engine = make_engine()
    process_handlers.add_to(engine.registry)
    engine.handler(asyncio.sleep, name="coroutine")
    engine.worker.start()
    assert engine.works()
    engine.run("coroutine", 0)
    engine.run("process_id")
    engine.worker.stop()
    # Those end with the runtime, not with its worker.
    runtimes = ("taskflow-submit", "taskflow-send", "taskflow-sqs", "taskflow-s3")

    def left() -> list[str]:
        names = [thread.name for thread in set(threading.enumerate()) - before]
        return [name for name in names if not name.startswith(runtimes)]

    wait_for(lambda: left() == [], "all have ended")


def test_running_attempts_may_finish(engine: Engine, gate: Gate) -> None:
    @engine.handler
    def slow(ctx: TaskContext) -> bool:
        gate.pass_through()
        return ctx.cancelled

    running = engine.submit("slow")
    gate.wait_for()
    stopping = threading.Thread(target=engine.worker.stop)
    stopping.start()
    wait_for(lambda: engine.worker.snapshot()["status"] == "draining", "it drains")
    waiting = engine.submit("slow")
    gate.open()
    stopping.join(10)
    task = engine.get(running)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, False)
    assert is_pending(engine, waiting)


@pytest.mark.parametrize("kind", ["thread", "blocked", "coroutine", "process"])
def test_what_does_not_finish_in_time_is_given_back_without_losing_an_attempt(
    make_engine: Callable[..., Engine], gate: Gate, kind: str
) -> None:
    engine = make_engine(abandon_grace_seconds=0.1, shutdown_grace_seconds=600.0)
    engine.worker.start()

    def thread() -> None:
        gate.arrive()
        while True:
            pass

    async def coroutine() -> None:
        gate.arrive()
        await asyncio.sleep(600)

    def blocked() -> None:
        gate.pass_through()

    for handler in (thread, coroutine, blocked):
        engine.handler(handler)
    process_handlers.add_to(engine.registry)
    if kind == "process":
        task_id = engine.submit("ignore_cancellation")
        wait_for(lambda: engine.get(task_id).progress == 1, "the handler runs")
    else:
        task_id = engine.submit(kind)
        gate.wait_for()
    began = time.monotonic()
    engine.worker.stop(grace_seconds=0.2)
    assert 0.2 <= time.monotonic() - began < 60
    task = engine.get(task_id)
    assert (task.status, task.attempt, task.failure_count, task.crash_count) == (
        TaskStatus.PENDING,
        0,
        0,
        0,
    )


def test_the_grace_can_be_cut_short(make_engine: Callable[..., Engine], gate: Gate) -> None:
    engine = make_engine(shutdown_grace_seconds=600.0)

    @engine.handler
    def spin() -> None:
        gate.arrive()
        while True:
            pass

    engine.worker.start()
    task_id = engine.submit("spin")
    gate.wait_for()
    stopping = threading.Thread(target=engine.worker.stop)
    stopping.start()
    wait_for(lambda: engine.worker.snapshot()["status"] == "draining", "it drains")
    engine.worker.release()
    stopping.join(10)
    assert not stopping.is_alive()
    assert is_pending(engine, task_id)


def test_what_was_claimed_ahead_is_given_back_before_anything_else(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=1)

    @engine.handler
    def short(is_first: bool) -> None:
        if is_first:
            gate.pass_through()

    engine.worker.start()
    for _ in range(3):
        engine.run("short", False)
    ids = engine.submit_many("short", [(True,)] + [(False,)] * 30)
    gate.wait_for()
    stopping = threading.Thread(target=engine.worker.stop)
    stopping.start()
    wait_for(lambda: all(is_pending(engine, task_id) for task_id in ids[1:]), "they are given back")
    assert engine.get(ids[0]).status is TaskStatus.RUNNING
    gate.open()
    stopping.join(10)
    assert engine.get(ids[0]).status is TaskStatus.COMPLETED


def test_every_outcome_is_written_before_stop_returns(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=4)
    engine.handler(lambda: None, name="noop")
    ids = engine.submit_many("noop", [()] * 500)
    engine.worker.start()
    engine.final(ids[0])
    engine.worker.stop()
    assert {engine.get(task_id).status for task_id in ids} <= {
        TaskStatus.COMPLETED,
        TaskStatus.PENDING,
    }
    engine.worker.start()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}
    assert {engine.get(task_id).attempt for task_id in ids} == {1}


def test_it_stops_although_the_store_is_away(
    make_engine: Callable[..., Engine], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WRITE_SECONDS", 0.3)
    engine = make_engine()
    engine.handler(gate.arrive, name="noop")
    tries = threading.Semaphore(0)

    def away(done: object) -> None:
        tries.release()
        raise StoreUnavailableError("gone")

    engine.runtime.execution.finish = away  # type: ignore[method-assign]
    engine.worker.start()
    engine.submit("noop")
    gate.wait_for()
    assert tries.acquire(timeout=10)
    began = time.monotonic()
    engine.worker.stop()
    assert time.monotonic() - began >= 0.3


def test_the_store_knows_who_works(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=3)
    engine.worker.start()
    [record] = engine.runtime.stores.workers.list()
    assert (record.worker_id, record.status) == (engine.runtime.worker_id, "running")
    assert record.details["total"] == 3
    engine.worker.stop()
    [record] = engine.runtime.stores.workers.list()
    assert record.status == "stopped"


def test_starting_and_stopping_twice_changes_nothing(engine: Engine) -> None:
    engine.worker.start()
    assert engine.works()
    engine.worker.stop()
    engine.worker.stop()
    engine.worker.release()
    assert engine.worker.snapshot()["status"] == "stopped"


@pytest.mark.parametrize("way", ["get", "put"])
def test_attempts_that_wait_for_the_payload_store_are_given_back_too(
    make_engine: Callable[..., Engine], gate: Gate, way: str
) -> None:
    """Without a call of a handler there is nothing to interrupt: reading arguments, writing a result."""
    engine = make_engine(abandon_grace_seconds=0.1)
    engine.handler(lambda text: text, name="large")
    payloads = engine.runtime.payloads
    used = getattr(payloads, way)
    large = engine.submit("large", "x" * 100_000)

    def hangs(_: Any) -> None:
        gate.pass_through()
        raise StoreUnavailableError("the payload store is away")

    setattr(payloads, way, hangs)
    engine.worker.start()
    gate.wait_for()
    setattr(payloads, way, used)
    threads = [thread for thread in threading.enumerate() if "taskflow-slot" in thread.name]
    engine.worker.stop(grace_seconds=0)
    task = engine.get(large)
    assert (task.status, task.attempt, task.crash_count) == (TaskStatus.PENDING, 0, 0)

    gate.open()
    for thread in threads:
        thread.join(10)
    assert engine.get(large).status is TaskStatus.PENDING  # what comes late changes nothing
    engine.worker.start()
    task = engine.final(large)
    assert (task.status, task.attempt, task.result) == (TaskStatus.COMPLETED, 1, "x" * 100_000)
    assert engine.events(large).count("task.completed") == 1
