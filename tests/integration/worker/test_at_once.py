"""Tasks that a worker of the same process starts in the transaction that stores them, and those it must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow.core.errors import QueueFullError, StoreUnavailableError
from taskflow.core.submission import Accepted, Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, TaskPriority, TaskStatus
from tests.integration.worker.engine import Engine, Gate, is_pending, wait_for
from tests.support import waiting as support


@pytest.fixture(params=["sqlite", "postgresql"])
def make_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """With the local queue: on any other there is nothing to be started at once."""
    engines: list[Engine] = []
    database: dict[str, Any] = {}
    if request.param == "postgresql":
        database["database_url"] = request.getfixturevalue("postgres_store")

    def make(**settings: Any) -> Engine:
        engines.append(Engine(tmp_path / "home", **(database | settings)))
        return engines[-1]

    yield make
    for engine in reversed(engines):
        engine.close()


def claims(engine: Engine) -> list[str]:
    """The tasks that are claimed by a transaction of their own from now on."""
    claimed: list[str] = []
    claim = engine.runtime.stores.execution.claim

    def watched(keys: Any, **options: Any) -> Any:
        claimed.extend(key.task_id for key in keys)
        return claim(keys, **options)

    engine.runtime.stores.execution.claim = watched  # type: ignore[method-assign]
    return claimed


def until_it_waits(engine: Engine) -> None:
    """The worker has looked into the queue, and found nothing."""
    sleepers = engine.runtime.queue._sleepers  # type: ignore[attr-defined]
    wait_for(lambda: len(sleepers) > 0, "the worker waits for a message")


def working(engine: Engine) -> Engine:
    engine.worker.start()
    until_it_waits(engine)
    return engine


def in_flight(engine: Engine) -> int:
    return sum(depth.in_flight for depth in engine.runtime.queue.depths().values())


def test_an_idle_worker_starts_what_is_submitted_without_claiming_it(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine()
    engine.handler(lambda x: x, name="same")
    claimed = claims(working(engine))
    task_id = engine.submit("same", 7)
    assert engine.final(task_id).result == 7
    assert engine.events(task_id) == ["task.submitted", "task.started", "task.completed"]
    assert claimed == []
    wait_for(lambda: in_flight(engine) == 0, "its message is acknowledged")


def test_of_a_batch_only_what_finds_a_free_slot(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=3)
    engine.handler(gate.pass_through, name="waits")
    claimed = claims(working(engine))
    ids = engine.submit_many("waits", [()] * 10)
    gate.wait_for(3)
    assert [is_pending(engine, task_id) for task_id in ids] == [False] * 3 + [True] * 7
    assert claimed == []
    gate.open()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}
    assert set(ids[:3]).isdisjoint(claimed)


def test_what_waits_goes_first(make_engine: Callable[..., Engine], gate: Gate) -> None:
    engine = make_engine(num_workers=1)
    order: list[int] = []

    @engine.handler
    def noted(number: int) -> None:
        order.append(number)
        gate.pass_through()

    working(engine)
    ids = [engine.submit("noted", number) for number in range(6)]
    gate.wait_for()
    gate.open()
    for task_id in ids:
        engine.final(task_id)
    assert order == list(range(6))


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 0.05},
        {"priority": "low"},
        {"task": "other"},
        {"task": "needs"},
        {"task": "breaks"},
    ],
)
def test_what_a_worker_must_not_take_now_waits_for_its_turn(
    make_engine: Callable[..., Engine], options: dict[str, Any]
) -> None:
    engine = make_engine(
        worker_priorities=("critical", "high", "normal"),
        worker_tasks=("plain", "needs", "breaks"),
        worker_resources=("gpu=1",),
    )
    for name in ("plain", "other"):
        engine.handler(lambda: None, name=name)
    engine.handler(lambda: None, name="needs", resources={"gpu": 1})
    engine.handler(lambda: None, name="breaks", breaker="smtp")
    working(engine)
    engine.run("plain")
    until_it_waits(engine)
    claimed = claims(engine)
    task_id = engine.submit(
        options.get("task", "plain"), **{k: v for k, v in options.items() if k != "task"}
    )
    if options in ({"priority": "low"}, {"task": "other"}):
        assert is_pending(engine, task_id)
    else:
        engine.final(task_id)
        assert claimed == [task_id]


def test_a_submission_that_fails_leaves_nothing_behind(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=2)
    engine.handler(lambda: "done", name="plain")
    working(engine)
    insert = engine.runtime.stores.submissions.insert

    def fails(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("away")

    for _ in range(5):
        engine.runtime.stores.submissions.insert = fails  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailableError):
            engine.submit("plain")
        # Of the one before: it is acknowledged after its outcome can be seen.
        wait_for(lambda: in_flight(engine) == 0, "nothing is on its way to a worker")
        engine.runtime.stores.submissions.insert = insert  # type: ignore[method-assign]
        assert engine.run("plain").result == "done"


def test_a_slot_kept_for_a_submission_that_fails_is_free_again(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=2)
    engine.handler(gate.pass_through, name="long")
    engine.handler(lambda: "done", name="short")
    working(engine)
    engine.submit("long")
    gate.wait_for()
    other = engine.submit("short", delay=600)
    engine.cancel(other)
    insert = engine.runtime.stores.submissions.insert
    storing, fail = threading.Event(), threading.Event()

    def fails_late(*_: Any, **options: Any) -> Any:
        assert options["start"] is not None
        storing.set()
        assert fail.wait(20)
        raise StoreUnavailableError("away")

    engine.runtime.stores.submissions.insert = fails_late  # type: ignore[method-assign]
    refused: list[BaseException] = []

    def submit() -> None:
        try:
            engine.submit("short")
        except StoreUnavailableError as exc:
            refused.append(exc)

    submitting = threading.Thread(target=submit)
    submitting.start()
    assert storing.wait(20)
    # Meanwhile the slot runs what comes from the queue; then the claimer believes that there is no room.
    engine.runtime.tasks.retry(DEFAULT_TENANT, other)
    engine.final(other)
    crew = engine.worker._crew
    assert crew is not None
    wait_for(lambda: crew.pool.claimer_waits, "the claimer waits for room")
    engine.runtime.stores.submissions.insert = insert  # type: ignore[method-assign]
    fail.set()
    submitting.join()
    assert len(refused) == 1
    support.wait_for(lambda: not crew.pool.claimer_waits, "the claimer looks again", seconds=5)
    assert engine.run("short").result == "done"
    gate.open()


def test_what_is_refused_or_replayed_is_not_started(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=3, max_queue_size=1)
    calls: list[int] = []
    engine.handler(lambda: calls.append(1), name="counted")
    engine.handler(gate.pass_through, name="waits")
    working(engine)
    first = engine.submit("counted", idempotency_key="k")
    engine.final(first)
    assert engine.submit("counted", idempotency_key="k") == first
    engine.submit("counted", delay=60.0)
    with pytest.raises(QueueFullError):
        engine.submit("counted")
    wait_for(lambda: in_flight(engine) == 0, "nothing is handed out")
    assert calls == [1]
    assert engine.worker.snapshot()["busy"] == 0


def test_a_worker_that_stops_meanwhile_gives_it_back(make_engine: Callable[..., Engine]) -> None:
    """A submission is being stored, its task already chosen, when the worker is told to stop."""
    engine = make_engine()
    engine.handler(lambda: "done", name="plain")
    working(engine)
    insert = engine.runtime.stores.submissions.insert
    storing, store = threading.Event(), threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        assert options["start"] is not None
        storing.set()
        assert store.wait(20)
        return insert(*args, **options)

    engine.runtime.stores.submissions.insert = slow  # type: ignore[method-assign]
    ids: list[str] = []
    submitting = threading.Thread(target=lambda: ids.append(engine.submit("plain")))
    submitting.start()
    assert storing.wait(20)
    stopping = threading.Thread(target=engine.worker.stop)
    stopping.start()
    wait_for(lambda: engine.runtime.submissions.starter is None, "the worker is about to stop")
    assert stopping.is_alive()
    store.set()
    submitting.join()
    stopping.join()
    engine.runtime.stores.submissions.insert = insert  # type: ignore[method-assign]
    status = engine.get(ids[0]).status
    assert status in (TaskStatus.PENDING, TaskStatus.COMPLETED)  # given back, or run before the end
    engine.worker.start()
    task = engine.final(ids[0])
    assert (task.result, task.attempt) == ("done", 1)


def test_without_a_worker_everything_waits(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    engine.handler(lambda: None, name="plain")
    assert is_pending(engine, engine.submit("plain"))
    engine.worker.start()
    engine.worker.stop()
    assert is_pending(engine, engine.submit("plain"))


def test_a_quiet_tenant_starts_at_once_beside_the_backlog_of_another(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine(num_workers=2)
    engine.handler(lambda: time.sleep(0.001), name="short")
    engine.worker.start()
    engine.run("short")
    engine.run("short")
    submit, wait = engine.runtime.submissions.submit, engine.runtime.tasks.wait
    submit("noisy", [Submission("short")] * 500)
    claimed = claims(engine)
    quiet = set()
    for _ in range(20):
        submit(
            "noisy", [Submission("short")] * 50
        )  # however long the rest took, there is a backlog
        [answer] = submit("quiet", [Submission("short")])
        assert isinstance(answer, Accepted)
        assert wait("quiet", answer.task_id, 20).status is TaskStatus.COMPLETED
        quiet.add(answer.task_id)
    assert len(quiet - set(claimed)) >= 3, "few were started as they were stored"


def test_the_backlog_of_a_higher_priority_goes_first(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=1)
    engine.handler(lambda: time.sleep(0.001), name="short")
    engine.worker.start()
    engine.run("short")
    until_it_waits(engine)
    start, claiming, go_on = engine.runtime.execution.start, threading.Event(), threading.Event()

    def held(*args: Any, **options: Any) -> Any:
        claiming.set()
        assert go_on.wait(20)
        return start(*args, **options)

    engine.runtime.execution.start = held  # type: ignore[method-assign]
    high = Submission("short", options=SubmitOptions.of(priority=TaskPriority.HIGH))
    engine.runtime.submissions.submit("noisy", [high] * 300)
    assert claiming.wait(20)
    engine.wait_until_idle()
    claimed = claims(engine)
    task_id = engine.submit(
        "short", priority="low"
    )  # the slot is free, and most of the others wait
    go_on.set()
    engine.final(task_id)
    assert task_id in claimed
