"""Waiting for tasks, and what people do to them by hand."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from taskflow.core.errors import InvalidCursorError, InvalidTransitionError, TaskNotFoundError
from taskflow.core.task import DEFAULT_TENANT, Returned
from taskflow.ports.metadata import TaskFilter, TaskKey
from tests.integration.services.conftest import Engine, Engines, noop
from tests.support.waiting import wait_for

UNKNOWN = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"


def test_a_final_task_needs_no_waiting(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop), 5)
    engine.work()
    assert engine.runtime.tasks.wait(DEFAULT_TENANT, task_id, None).result == 5
    assert asyncio.run(engine.runtime.tasks.wait_async(DEFAULT_TENANT, task_id, 0)).result == 5


def test_waiting_ends_at_once_when_the_task_ends_in_this_process(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop))
    waiting = threading.Barrier(2)

    def work() -> None:
        waiting.wait()
        engine.work()

    worker = threading.Thread(target=work)
    worker.start()
    waiting.wait()
    assert engine.runtime.tasks.wait(DEFAULT_TENANT, task_id, 30).status == "completed"
    worker.join()
    assert engine.runtime.completions._callbacks == {}


def test_what_was_returned_is_told_without_asking_the_store(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = engine.submit(engine.handler(noop), {"n": [1]})
    attempt = engine.start_one()
    tasks, store = engine.runtime.tasks, engine.runtime.stores.tasks

    def refuse(*_args: object) -> None:
        raise AssertionError("the store was asked")

    def finish_once_somebody_waits() -> None:
        wait_for(lambda: engine.runtime.completions._callbacks, "somebody waits")
        engine.succeed(attempt, {"n": [1]})

    monkeypatch.setattr(tasks, "_is_queued", lambda *_: True)
    monkeypatch.setattr("taskflow.services.tasks._MOMENT_SECONDS", 30.0)
    monkeypatch.setattr(store, "final", refuse)
    monkeypatch.setattr(store, "get", refuse)
    finisher = threading.Thread(target=finish_once_somebody_waits)
    finisher.start()
    assert tasks.returned(DEFAULT_TENANT, task_id, 30) == Returned({"n": [1]})
    finisher.join()


def test_of_a_task_that_is_there_twice_only_the_store_knows_what_it_returned(
    engine: Engine,
) -> None:
    task_id = engine.submit(engine.handler(noop))
    lost = engine.start_one()
    engine.write_row(task_id, engine.row(task_id) | {"status": "pending", "lease_token": None})
    engine.runtime.queue.nack([lost.receipt])
    again = engine.start_one()
    told: list[str | None] = []
    engine.runtime.completions.subscribe(
        TaskKey(DEFAULT_TENANT, task_id), lambda _, result: told.append(result)
    )
    execution = engine.runtime.execution
    execution.finish([(a, execution.succeeded(a, n, 1.0)) for n, a in enumerate([lost, again])])
    assert told == [None]
    assert engine.get(task_id).result == 1


def test_a_task_that_was_cancelled_while_its_message_is_queued_is_not_waited_for(
    engine: Engine,
) -> None:
    task_id = engine.submit(engine.handler(noop))
    engine.runtime.tasks.cancel(DEFAULT_TENANT, task_id)
    assert engine.runtime.queue.known(DEFAULT_TENANT, task_id)  # type: ignore[attr-defined]
    for _ in range(20):  # each would take half a second if the store were not asked soon
        assert engine.runtime.tasks.wait(DEFAULT_TENANT, task_id, 5).status == "cancelled"


async def test_waiting_on_an_event_loop_ends_when_the_task_ends(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop), 7)
    wait = asyncio.create_task(engine.runtime.tasks.wait_async(DEFAULT_TENANT, task_id, 30))
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.work)
    assert (await wait).result == 7
    assert engine.runtime.completions._callbacks == {}


def test_a_task_that_ends_in_another_process_is_noticed(engines: Engines) -> None:
    submitter, worker = engines(with_worker=False), engines()
    task_id = submitter.submit(submitter.handler(noop), 3)

    def work() -> None:
        worker.runtime.relay.run_once()
        worker.work()

    thread = threading.Thread(target=work)
    thread.start()
    assert submitter.runtime.tasks.wait(DEFAULT_TENANT, task_id, 30).result == 3
    thread.join()


async def test_time_that_is_up_returns_the_task_as_it_is(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop))
    started = time.monotonic()
    assert engine.runtime.tasks.wait(DEFAULT_TENANT, task_id, 0.05).status == "pending"
    found = await engine.runtime.tasks.wait_async(DEFAULT_TENANT, task_id, 0.05)
    assert found.status == "pending"
    assert 0.1 <= time.monotonic() - started < 10
    assert engine.runtime.completions._callbacks == {}


async def test_waiting_for_nothing_is_an_error(engine: Engine) -> None:
    tasks = engine.runtime.tasks
    for task_id in (UNKNOWN, "nonsense"):
        with pytest.raises(TaskNotFoundError):
            tasks.wait(DEFAULT_TENANT, task_id, 1)
        with pytest.raises(TaskNotFoundError):
            await tasks.wait_async(DEFAULT_TENANT, task_id, 1)


def test_another_tenants_task_is_as_good_as_unknown(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop))
    tasks, letters = engine.runtime.tasks, engine.runtime.dead_letters
    for ask in (tasks.get, tasks.history, tasks.cancel, tasks.retry):
        with pytest.raises(TaskNotFoundError):
            ask("other", task_id)
    with pytest.raises(TaskNotFoundError):
        tasks.wait("other", task_id, 0)
    assert tasks.list("other", TaskFilter(), limit=10, cursor=None) == ([], None)
    engine.fail(engine.start_one(), ValueError())
    assert letters.list("other", limit=10, cursor=None) == ([], None)
    assert letters.groups("other") == []
    assert letters.redrive("other", task_ids=[task_id]) == 0
    assert letters.discard("other", task_ids=[task_id]) == 0
    assert engine.runtime.insights.metrics("other")["queue"]["failed_count"] == 0
    assert engine.status(task_id) == "failed"


def test_only_what_is_not_final_can_be_cancelled_and_only_what_is_final_retried(
    engine: Engine,
) -> None:
    task = engine.handler(noop)
    tasks = engine.runtime.tasks
    waiting, done = engine.submit(task, delay=60), engine.submit(task)
    engine.work()
    assert tasks.cancel(DEFAULT_TENANT, waiting).status == "cancelled"
    for task_id in (waiting, done):
        with pytest.raises(InvalidTransitionError, match="already"):
            tasks.cancel(DEFAULT_TENANT, task_id)
        assert tasks.retry(DEFAULT_TENANT, task_id).status == "pending"
        with pytest.raises(InvalidTransitionError, match="pending"):
            tasks.retry(DEFAULT_TENANT, task_id)
    assert engine.work() == 2


def test_cancelling_tells_those_who_wait_for_the_task_and_for_its_dependents(
    engine: Engine,
) -> None:
    task = engine.handler(noop)
    parent = engine.submit(task, delay=60)
    child = engine.submit(task, depends_on=[parent])
    found = []
    thread = threading.Thread(
        target=lambda: found.append(engine.runtime.tasks.wait(DEFAULT_TENANT, child, 30))
    )
    thread.start()
    engine.runtime.tasks.cancel(DEFAULT_TENANT, parent)
    thread.join(30)
    assert [task.status for task in found] == ["failed"]


def test_pages_hold_every_task_once_newest_first(engine: Engine) -> None:
    task = engine.handler(noop)
    made = [engine.submit(task, n) for n in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = engine.runtime.tasks.list(
            DEFAULT_TENANT, TaskFilter(), limit=3, cursor=cursor
        )
        seen += [found.task_id for found in page]
        if cursor is None:
            break
    assert seen == made[::-1]
    with pytest.raises(InvalidCursorError):
        engine.runtime.tasks.list(DEFAULT_TENANT, TaskFilter(), limit=3, cursor="x")


def test_history_tells_the_end_of_what_there_is_from_what_there_is_not(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop))
    [event] = engine.runtime.tasks.history(DEFAULT_TENANT, task_id)
    assert engine.runtime.tasks.history(DEFAULT_TENANT, task_id, after=event.event_id) == []
    with pytest.raises(TaskNotFoundError):
        engine.runtime.tasks.history(DEFAULT_TENANT, UNKNOWN)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_task_that_is_retried_between_two_looks_is_waited_for_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    task_id = engine.submit(engine.handler(noop), 5)
    engine.work()
    tasks, store = engine.runtime.tasks, engine.runtime.stores.tasks
    final = store.final

    def final_until_now(keys: list[TaskKey]) -> dict[TaskKey, bool]:
        found = final(keys)
        if found == {TaskKey(DEFAULT_TENANT, task_id): True} and worker.ident is None:
            tasks.retry(DEFAULT_TENANT, task_id)
            worker.start()
        return found

    worker = threading.Thread(target=engine.work)
    monkeypatch.setattr(store, "final", final_until_now)
    task = (
        asyncio.run(tasks.wait_async(DEFAULT_TENANT, task_id, 30))
        if is_async
        else tasks.wait(DEFAULT_TENANT, task_id, 30)
    )
    worker.join()
    assert task.status == "completed"
    assert engine.history(task_id).count("completed") == 2


def test_a_task_that_is_retried_the_moment_it_ends_is_waited_for_again(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop), 5)
    runtime = engine.runtime
    runs = 0

    def retry_once(_key: object, _result: str | None) -> None:
        nonlocal runs
        runs += 1
        runtime.tasks.retry(DEFAULT_TENANT, task_id)
        again.start()

    again = threading.Thread(target=engine.work)
    runtime.completions.subscribe(TaskKey(DEFAULT_TENANT, task_id), retry_once)
    first = threading.Thread(target=engine.work)
    first.start()
    task = runtime.tasks.wait(DEFAULT_TENANT, task_id, 30)
    first.join()
    again.join()
    assert (task.status, runs) == ("completed", 1)
    assert (
        len(
            [
                e
                for e in runtime.tasks.history(DEFAULT_TENANT, task_id)
                if e.type == "task.completed"
            ]
        )
        == 2
    )
