"""Cancelling tasks that wait in a worker, and tasks that run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from taskflow.core.context import TaskContext
from taskflow.core.task import TaskStatus
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import PATIENCE_SECONDS, Engine, Gate, key, wait_for


def test_a_handler_that_asks_sees_it_at_once(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(cancel_grace_seconds=60.0)

    @engine.handler
    def polite(ctx: TaskContext) -> str:
        gate.arrive()
        while not ctx.cancelled:
            time.sleep(0.001)
        return "left in good order"

    engine.worker.start()
    task_id = engine.submit("polite")
    gate.wait_for()
    engine.cancel(task_id)
    task = engine.final(task_id)
    assert task.status is TaskStatus.CANCELLED
    assert task.error is not None
    assert task.error.type == "AttemptCancelledError"
    assert engine.events(task_id)[-1] == "task.cancelled"


def test_a_thread_that_does_not_ask_is_interrupted_after_its_grace(
    engine: Engine, gate: Gate
) -> None:
    began, ended = [0.0], [0.0]

    @engine.handler
    def spin() -> None:
        gate.arrive()
        try:
            while True:
                pass
        finally:
            ended[0] = time.monotonic()

    task_id = engine.submit("spin", max_retries=5)
    gate.wait_for()
    began[0] = time.monotonic()
    engine.cancel(task_id)
    assert engine.final(task_id).status is TaskStatus.CANCELLED
    assert ended[0] - began[0] >= engine.settings.cancel_grace_seconds
    assert engine.works()


def test_a_blocked_thread_is_abandoned(make_engine: Callable[..., Engine], gate: Gate) -> None:
    engine = make_engine(abandon_grace_seconds=0.1)
    engine.handler(gate.pass_through, name="block")
    engine.worker.start()
    task_id = engine.submit("block")
    gate.wait_for()
    engine.cancel(task_id)
    task = engine.final(task_id)
    assert task.status is TaskStatus.CANCELLED
    assert task.error is not None
    assert "abandoned" in task.error.message
    assert engine.worker.snapshot()["abandoned"] == 1


def test_a_coroutine_is_cancelled_at_once_and_may_clean_up(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(cancel_grace_seconds=60.0, abandon_grace_seconds=0.1)
    cleaned_up = threading.Event()

    @engine.handler
    async def sleep() -> None:
        gate.arrive()
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.15)  # longer than abandon_grace_seconds
            cleaned_up.set()

    engine.worker.start()
    task_id = engine.submit("sleep")
    gate.wait_for()
    engine.cancel(task_id)
    assert engine.final(task_id).status is TaskStatus.CANCELLED
    assert cleaned_up.is_set()
    assert engine.worker.snapshot()["abandoned"] == 0


def test_a_child_process_is_told(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    engine = make_engine(cancel_grace_seconds=60.0)
    process_handlers.add_to(engine.registry)
    engine.worker.start()
    note = tmp_path / "note"
    task_id = engine.submit("until_cancelled", str(note))
    wait_for(lambda: engine.get(task_id).progress == 1, "the handler runs")
    engine.cancel(task_id)
    assert engine.final(task_id).status is TaskStatus.CANCELLED
    assert note.read_text() == "noticed"


def test_a_child_process_that_does_not_listen_is_killed(engine: Engine) -> None:
    process_handlers.add_to(engine.registry)
    task_id = engine.submit("ignore_cancellation")
    wait_for(lambda: engine.get(task_id).progress == 1, "the handler runs")
    engine.cancel(task_id)
    task = engine.final(task_id)
    assert (task.status, task.crash_count) == (TaskStatus.CANCELLED, 0)
    assert engine.run("process_id").status is TaskStatus.COMPLETED


def test_a_task_that_was_only_claimed_is_given_back_without_an_attempt(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=1)
    ran: list[int] = []

    @engine.handler
    def short(x: int) -> None:
        if x == 0:
            gate.pass_through()
        ran.append(x)

    engine.worker.start()
    for _ in range(3):  # now it is known to be short, and claimed ahead
        engine.run("short", 100)
    ids = engine.submit_many("short", [(x,) for x in range(20)])
    gate.wait_for()
    engine.cancel(ids[19])
    assert engine.final(ids[19]).status is TaskStatus.CANCELLED
    assert engine.get(ids[19]).attempt == 0
    gate.open()
    assert {engine.final(task_id).status for task_id in ids[:19]} == {TaskStatus.COMPLETED}
    assert 19 not in ran


def test_a_cancellation_by_another_process_is_noticed(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(cancel_grace_seconds=60.0)
    noticed: list[bool] = []

    @engine.handler
    def polite(ctx: TaskContext) -> None:
        gate.arrive()
        until = time.monotonic() + PATIENCE_SECONDS
        while not ctx.cancelled and time.monotonic() < until:
            time.sleep(0.001)
        noticed.append(ctx.cancelled)

    engine.worker.start()
    task_id = engine.submit("polite")
    gate.wait_for()
    engine.runtime.stores.tasks.cancel(
        [key(task_id)]
    )  # what another process does: nobody tells this one
    assert engine.final(task_id).status is TaskStatus.CANCELLED
    assert noticed == [True]


def test_cancelling_what_is_not_here_changes_nothing(engine: Engine) -> None:
    engine.worker.cancel([key("0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11")])
    assert engine.works()
