"""What a worker does with handlers that behave."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from taskflow import logs
from taskflow.core.context import TaskContext
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.task import TaskStatus
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import PATIENCE_SECONDS, Engine, Gate


def test_a_returned_value_becomes_the_result(engine: Engine) -> None:
    engine.handler(lambda x: {"twice": 2 * x}, name="double")
    task = engine.run("double", 21)
    assert (task.status, task.result, task.attempt) == (TaskStatus.COMPLETED, {"twice": 42}, 1)


def test_a_coroutine_handler_runs_on_one_event_loop(engine: Engine) -> None:
    threads: set[str] = set()

    @engine.handler
    async def wait(x: int) -> int:
        await asyncio.sleep(0)
        threads.add(threading.current_thread().name)
        return x

    tasks = [
        engine.final(task_id) for task_id in engine.submit_many("wait", [(n,) for n in range(20)])
    ]
    assert [task.result for task in tasks] == list(range(20))
    assert len(threads) == 1


def test_no_more_attempts_run_at_once_than_there_are_workers(make_engine: Any, gate: Gate) -> None:
    engine = make_engine(num_workers=3)
    running: set[str] = set()
    most = 0

    def enter(name: str) -> None:
        nonlocal most
        running.add(name)
        most = max(most, len(running))

    @engine.handler
    def sync(name: str) -> None:
        enter(name)
        gate.pass_through()
        running.discard(name)

    @engine.handler
    async def coroutine(name: str) -> None:
        enter(name)
        await asyncio.to_thread(gate.pass_through)
        running.discard(name)

    ids = [engine.submit("sync" if n % 2 else "coroutine", str(n)) for n in range(8)]
    engine.worker.start()
    gate.wait_for(3)
    assert engine.worker.snapshot()["busy"] == 3
    gate.open()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}
    assert most == 3


def test_an_exception_fails_the_attempt_with_the_handlers_own_frames(engine: Engine) -> None:
    @engine.handler
    def fail() -> None:
        raise ValueError("no such customer")

    error = engine.run("fail").error
    assert error is not None
    assert (error.type, error.message, error.classification) == (
        "ValueError",
        "no such customer",
        "permanent",
    )
    assert error.traceback is not None
    assert "in fail" in error.traceback
    assert "taskflow/worker" not in error.traceback


def test_a_transient_error_is_retried_until_it_works(engine: Engine) -> None:
    attempts: list[int] = []

    @engine.handler
    def flaky(ctx: TaskContext) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("try again")
        return ctx.attempt

    task = engine.run("flaky", max_retries=5)
    assert (task.status, task.result, attempts) == (TaskStatus.COMPLETED, 3, [1, 2, 3])


def test_the_context_says_which_attempt_it_is(engine: Engine) -> None:
    seen: dict[str, Any] = {}

    @engine.handler
    def look(x: int, ctx: TaskContext) -> None:
        assert isinstance(ctx, TaskContext)
        seen.update(
            x=x, id=ctx.task_id, tenant=ctx.tenant_id, task=ctx.task, attempt=ctx.attempt,
            metadata=dict(ctx.metadata), cancelled=ctx.cancelled, left=ctx.seconds_left,
        )  # fmt: skip
        ctx.log.info("looked", x=x)

    task_id = engine.submit("look", 7, metadata={"order": 5}, timeout=60)
    engine.final(task_id)
    assert 0 < seen.pop("left") <= 60
    assert seen == {
        "x": 7, "id": task_id, "tenant": "default", "task": "look", "attempt": 1, "metadata": {"order": 5},
        "cancelled": False,
    }  # fmt: skip


def test_a_model_is_a_result_and_an_argument(engine: Engine) -> None:
    class Point(BaseModel):
        x: int

    # A local class cannot be resolved from a string annotation.
    def move(point: Any) -> Any:
        return Point(x=point["x"] + 1)

    engine.handler(move)
    assert engine.run("move", {"x": 1}).result == {"x": 2}


def test_a_worker_can_be_started_again(engine: Engine) -> None:
    assert engine.works()
    engine.worker.stop()
    assert engine.worker.snapshot() == {"status": "stopped", "total": 0, "busy": 0, "idle": 0}
    task_id = engine.submit("still_alive")
    engine.worker.start()
    assert engine.final(task_id).result == "yes"


def test_many_short_tasks_share_transactions(make_engine: Any) -> None:
    engine = make_engine(num_workers=4)
    batches: list[list[str]] = []
    enough_ran = threading.Event()
    ran: list[int] = []
    finish = engine.runtime.execution.finish

    @engine.handler
    def noop(x: int) -> int:
        ran.append(x)
        if len(ran) == 200:
            enough_ran.set()
        return x

    def slow_at_first(done: Any) -> Any:
        # What waited for its turn too long is given back, and runs later.
        ended = [a.task.task_id for a, outcome in done if outcome.status is TaskStatus.COMPLETED]
        batches.append(ended)
        if len(batches) == 1:
            assert enough_ran.wait(PATIENCE_SECONDS)
        return finish(done)

    engine.runtime.execution.finish = slow_at_first
    ids = engine.submit_many("noop", [(n,) for n in range(300)])
    engine.worker.start()
    assert [engine.final(task_id).result for task_id in ids] == list(range(300))
    assert sorted(task_id for batch in batches for task_id in batch) == sorted(ids)
    # The finisher may have been about to write some of those that ended meanwhile; all others go together.
    assert sum(map(len, batches[:3])) >= 200


def test_outcomes_wait_for_a_store_that_is_away(engine: Engine) -> None:
    finish, refused = engine.runtime.execution.finish, threading.Semaphore(3)

    def unreliable(done: Any) -> Any:
        if refused.acquire(blocking=False):
            raise StoreUnavailableError("locked by somebody else")
        return finish(done)

    engine.runtime.execution.finish = unreliable  # type: ignore[method-assign]
    assert engine.works()
    assert not refused.acquire(blocking=False)


def test_a_slot_with_nothing_else_to_do_writes_its_outcome_itself(engine: Engine) -> None:
    finish = engine.runtime.execution.finish
    writers: list[str] = []

    def noted(done: Any) -> Any:
        writers.append(threading.current_thread().name)
        return finish(done)

    engine.runtime.execution.finish = noted  # type: ignore[method-assign]
    for _ in range(5):
        assert engine.works()
        engine.wait_until_idle()  # else the slot of the one before may still be writing
    assert all(name.startswith("taskflow-slot-") for name in writers), writers


def test_claims_wait_for_a_store_that_is_away(make_engine: Any) -> None:
    engine = make_engine()
    engine.handler(lambda x: x, name="noop")
    task_id = engine.submit("noop", 7)  # waits already: it will be claimed
    start, refused = engine.runtime.execution.start, threading.Semaphore(3)

    def unreliable(deliveries: Any, **options: Any) -> Any:
        if refused.acquire(blocking=False):
            raise StoreUnavailableError("locked by somebody else")
        return start(deliveries, **options)

    engine.runtime.execution.start = unreliable
    engine.worker.start()
    assert engine.final(task_id).result == 7
    assert not refused.acquire(blocking=False)


def test_an_outcome_that_cannot_be_written_does_not_keep_back_the_others(make_engine: Any) -> None:
    engine = make_engine(num_workers=1)
    engine.handler(lambda x: x, name="noop")
    ids = engine.submit_many("noop", [(n,) for n in range(50)])
    finish = engine.runtime.execution.finish

    def choosy(done: Any) -> Any:
        if any(attempt.task.task_id == ids[7] for attempt, _ in done):
            raise RuntimeError("a fault of ours")
        return finish(done)

    engine.runtime.execution.finish = choosy
    engine.worker.start()
    others = [task_id for task_id in ids if task_id != ids[7]]
    assert {engine.final(task_id).status for task_id in others} == {TaskStatus.COMPLETED}
    assert engine.get(ids[7]).status is TaskStatus.RUNNING  # until its lease runs out


def test_a_large_result_waits_for_the_payload_store(engine: Engine) -> None:
    payloads, refused = engine.runtime.payloads, threading.Semaphore(1)
    put = payloads.put

    def unreliable(objects: Any) -> None:
        if refused.acquire(blocking=False):
            raise StoreUnavailableError("payload store is away")
        put(objects)

    payloads.put = unreliable  # type: ignore[method-assign]
    engine.handler(lambda: "x" * 100_000, name="large")
    task = engine.run("large")
    assert (task.status, task.result, task.attempt) == (TaskStatus.COMPLETED, "x" * 100_000, 1)


def test_a_task_whose_large_result_waits_can_be_cancelled(make_engine: Any) -> None:
    engine = make_engine(num_workers=1, lease_seconds=1)
    engine.worker.start()
    waits = threading.Event()

    def refuse(_objects: Any) -> None:
        waits.set()
        raise StoreUnavailableError("payload store takes nothing for ever")

    engine.runtime.payloads.put = refuse
    engine.handler(lambda: "x" * 100_000, name="large")
    engine.handler(lambda: 7, name="small")
    large, small = engine.submit("large"), engine.submit("small")
    assert waits.wait(PATIENCE_SECONDS)

    engine.cancel(large)

    assert engine.final(large).status is TaskStatus.CANCELLED
    assert engine.final(small).result == 7  # its slot is free again


def test_large_arguments_wait_for_the_payload_store(make_engine: Any) -> None:
    engine = make_engine(max_uncounted_attempts=1)
    engine.worker.start()
    payloads, refused = engine.runtime.payloads, threading.Semaphore(2)
    get = payloads.get

    def unreliable(keys: Any) -> Any:
        if refused.acquire(blocking=False):
            raise StoreUnavailableError("payload store is away")
        return get(keys)

    payloads.get = unreliable
    engine.handler(len, name="length")
    task = engine.run("length", "x" * 100_000)
    assert (task.status, task.result, task.attempt) == (TaskStatus.COMPLETED, 100_000, 1)
    assert engine.events(task.task_id).count("task.retrying") == 2


def said(capsys: pytest.CaptureFixture[str], logger: str = "somebody.else") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return [line for line in lines if line["logger"] == logger]


def test_whatever_a_handler_logs_says_which_attempt_it_belongs_to(
    make_engine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = make_engine(
        num_workers=1
    )  # so that each attempt finds what the one before left behind
    process_handlers.add_to(engine.registry)

    @engine.handler
    def thread_talks(level: str) -> None:
        logging.getLogger("somebody.else").info("from a %s", "thread")

    @engine.handler
    async def coroutine_talks(level: str) -> None:
        logging.getLogger("somebody.else").info("from a %s", "coroutine")

    logs.configure("info", "json", service="worker")
    engine.worker.start()
    for executor in ("thread", "coroutine", "process"):
        for request_id in ("r-1", None):
            task = engine.run(f"{executor}_talks", "INFO", request_id=request_id)
            [line] = said(capsys)
            assert line.pop("ts")
            assert line.pop("version")
            expected = {
                "level": "info",
                "event": f"from a {executor}",
                "logger": "somebody.else",
                "service": "worker",
                "task_id": task.task_id,
                "tenant_id": "default",
                "attempt": 1,
            }
            assert line == expected | ({"request_id": request_id} if request_id else {})


def test_a_handler_may_return_a_model_wherever_it_runs(engine: Engine) -> None:
    process_handlers.add_to(engine.registry)

    @engine.handler
    def thread_answers(n: int) -> process_handlers.Answer:
        return process_handlers.Answer(n=n)

    @engine.handler
    async def coroutine_answers(n: int) -> process_handlers.Answer:
        return process_handlers.Answer(n=n)

    for executor in ("thread", "coroutine", "process"):
        assert engine.run(f"{executor}_answers", 3).result == {"n": 3, "when": "PT5S"}
