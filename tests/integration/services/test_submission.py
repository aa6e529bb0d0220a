"""Submitting: what is stored, what is refused, and what a refusal leaves behind (nothing)."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from taskflow.adapters.metadata.database import Database
from taskflow.core.errors import (
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidRequestError,
    PayloadTooLargeError,
    QueueFullError,
    StoreUnavailableError,
    TaskFlowError,
    UnknownDependencyError,
    UnknownTaskError,
)
from taskflow.core.retry import RetryPolicy
from taskflow.core.submission import Accepted
from taskflow.core.task import DEFAULT_TENANT, TaskPriority
from taskflow.services.preparation import Preparation
from taskflow.services.submission import Submissions
from tests.integration.services.conftest import Engine, Engines, ids, noop
from tests.support.database_time import about_sqlite

LARGE = "x" * 70_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_option_is_stored(engine: Engine) -> None:
    task = engine.handler(noop)
    parent = engine.submit(task)
    task_id = engine.submit(
        task,
        {"a": [1, "ü😀", None, 2**63 - 1, -(2**63), 1.5]},
        priority="critical",
        delay=60,
        expires_in=timedelta(minutes=5),
        max_retries=7,
        timeout=1.5,
        idempotency_key="key",
        depends_on=[parent],
        tags=["b", "a", "b"],
        metadata={"k": {"n": [1]}},
        name="a label",
    )
    stored = engine.get(task_id)
    assert stored.args == [{"a": [1, "ü😀", None, 2**63 - 1, -(2**63), 1.5]}]
    assert (stored.priority, stored.status) == (TaskPriority.CRITICAL, "blocked")
    assert stored.run_at == NOW + timedelta(seconds=60)
    assert stored.expires_at == NOW + timedelta(minutes=5)
    assert (stored.max_retries, stored.timeout, stored.idempotency_key) == (7, 1.5, "key")
    assert (stored.depends_on, stored.tags) == ([parent], ["a", "b"])
    assert (stored.metadata, stored.name, stored.request_id) == ({"k": {"n": [1]}}, "a label", "r1")


def test_what_a_submission_leaves_open_the_handler_declares_and_else_the_settings(
    engines: Engines,
) -> None:
    engine = engines(default_max_retries=2, default_timeout=20)
    plain = engine.handler(noop)

    def special() -> None: ...

    declared = engine.handler(
        special,
        priority=TaskPriority.LOW,
        max_retries=0,
        timeout_seconds=4.0,
        expires_in_seconds=60.0,
        retry_policy=RetryPolicy(),
    )
    task = engine.get(engine.submit(plain))
    assert (task.priority, task.max_retries, task.timeout) == (TaskPriority.NORMAL, 2, 20.0)
    task = engine.get(engine.submit(declared))
    assert (task.priority, task.max_retries, task.timeout) == (TaskPriority.LOW, 0, 4.0)
    assert task.expires_at == NOW + timedelta(seconds=60)
    task = engine.get(engine.submit(declared, priority=0, max_retries=1, expires_in=5))
    assert (task.priority, task.max_retries) == (TaskPriority.CRITICAL, 1)
    assert task.expires_at == NOW + timedelta(seconds=5)


@pytest.mark.parametrize("when", [{"delay": 100}, {"run_at": NOW + timedelta(seconds=100)}])
def test_a_delayed_task_starts_when_it_is_due_and_not_before(
    engine: Engine, when: dict[str, Any]
) -> None:
    task_id = engine.submit(engine.handler(noop), **when)
    assert engine.status(task_id) == "scheduled"
    engine.clock.advance(99.9)
    assert engine.work() == 0
    engine.clock.advance(0.2)
    assert engine.work() == 1
    assert engine.status(task_id) == "completed"


def test_a_task_for_the_past_is_due_now(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop), run_at=NOW - timedelta(days=400))
    assert engine.status(task_id) == "pending"
    assert engine.work() == 1


def test_each_submission_of_a_batch_gets_its_own_answer_in_order(engine: Engine) -> None:
    task = engine.handler(noop)
    done = engine.submit(task, 1, idempotency_key="known")
    answers = engine.runtime.submissions.submit(
        DEFAULT_TENANT,
        [
            engine.ask(task, 1),
            engine.ask("nop", 1),
            engine.ask(task, 1, 2),
            engine.ask(task, 1, idempotency_key="known"),
            engine.ask(task, 2, idempotency_key="known"),
            engine.ask(task, depends_on=["not-an-id"]),
            engine.ask(task, depends_on=["0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"]),
            engine.ask(task, metadata={"k": float("nan")}),
            engine.ask(task, "x" * 2**20),
            engine.ask(task, metadata={"k": "x" * 2**20}),
            engine.ask(task, 3),
        ],
    )
    kinds = [type(answer) for answer in answers]
    assert kinds == [
        Accepted,
        UnknownTaskError,
        InvalidArgumentsError,
        Accepted,
        IdempotencyConflictError,
        UnknownDependencyError,
        UnknownDependencyError,
        InvalidRequestError,
        PayloadTooLargeError,
        PayloadTooLargeError,
        Accepted,
    ]
    assert answers[3].task_id == done
    assert answers[3].replayed
    assert engine.count("tasks") == 3
    totals = engine.runtime.counters.snapshot()["totals"]
    assert (totals["enqueued"], totals["rejected"], totals["replayed"]) == (3, 8, 1)


def test_large_arguments_go_to_a_file_and_come_back(engine: Engine) -> None:
    task = engine.handler(noop)
    large, small = engine.submit(task, LARGE), engine.submit(task, "x" * 60_000)
    assert engine.payload_files() == [f"default/input/{large}"]
    assert engine.get(large).args == [LARGE]
    assert engine.get(small).args == ["x" * 60_000]
    load = engine.runtime.execution.arguments
    assert [load(attempt) for attempt in engine.start()] == [
        ([], {"x": LARGE}),
        ([], {"x": "x" * 60_000}),
    ]


async def test_large_arguments_from_an_event_loop_are_written_off_it(engine: Engine) -> None:
    task = engine.handler(noop)
    [answer] = await engine.runtime.submissions.submit_async(
        DEFAULT_TENANT, [engine.ask(task, LARGE)]
    )
    assert isinstance(answer, Accepted)
    assert engine.get(answer.task_id).args == [LARGE]


def test_a_refused_or_replayed_submission_leaves_no_payload_file(engines: Engines) -> None:
    engine = engines(max_queue_size=1)
    task = engine.handler(noop)
    first = engine.submit(task, LARGE, idempotency_key="k")
    kept = engine.payload_files()
    submissions = [
        engine.ask(task, LARGE, idempotency_key="k"),
        engine.ask(task, LARGE + "y", idempotency_key="k"),
        engine.ask(task, LARGE),
        engine.ask(task, LARGE, metadata={"k": object()}),
        engine.ask(task, LARGE, depends_on=["nonsense"]),
    ]
    answers = engine.runtime.submissions.submit(DEFAULT_TENANT, submissions)
    assert isinstance(answers[0], Accepted)
    assert answers[0].task_id == first
    assert [type(answer) for answer in answers[1:]] == [
        IdempotencyConflictError,
        QueueFullError,
        InvalidRequestError,
        UnknownDependencyError,
    ]
    assert engine.payload_files() == kept == [f"default/input/{first}"]


@about_sqlite
def test_when_the_store_is_locked_nothing_is_accepted_and_no_file_is_left(engines: Engines) -> None:
    engine = engines(database_busy_timeout_seconds=0)
    task = engine.handler(noop)
    other = Database(engine.runtime.settings.resolved_database_url, clock=engine.clock)
    with other.write():
        with pytest.raises(StoreUnavailableError, match="lock"):
            engine.submit(task, LARGE)
        with pytest.raises(StoreUnavailableError, match="lock"):
            asyncio.run(
                engine.runtime.submissions.submit_async(DEFAULT_TENANT, [engine.ask(task, LARGE)])
            )
    assert engine.payload_files() == []
    engine.submit(task, LARGE)
    assert engine.count("tasks") == 1
    other.close()


def test_a_submission_the_store_cannot_take_harms_no_other_of_its_transaction(
    engine: Engine,
) -> None:
    """As an unforeseen database error would: here two tasks with the same id."""
    task = engine.handler(noop)
    taken = engine.submit(task)
    new_ids = iter([taken, *(f"0199a3c1-5e2f-7a41-9c1d-00000000000{n}" for n in range(1, 10))])
    runtime = engine.runtime
    submissions = Submissions(
        runtime.stores.submissions,
        preparation=Preparation(
            registry=engine.registry,
            payloads=runtime.submissions._payloads,
            new_id=lambda: next(new_ids),
            default_max_retries=3,
            default_timeout_seconds=30.0,
        ),
        payloads=runtime.submissions._payloads,
        sending=runtime.submissions._sending,
        completions=runtime.completions,
        counters=runtime.counters,
        max_waiting=0,
    )
    bad, good, also_good = submissions.submit(
        DEFAULT_TENANT, [engine.ask(task), engine.ask(task), engine.ask(task)]
    )
    assert type(bad) is TaskFlowError
    assert bad.code == "internal_error"
    assert len(ids([good, also_good])) == 2
    assert {delivery.task_id for delivery in engine.receive()} == {taken, *ids([good, also_good])}
    submissions.close()


def test_fifty_at_once_with_one_key_make_one_task(engine: Engine) -> None:
    task = engine.handler(noop)
    barrier = threading.Barrier(25)
    answers: list[Accepted] = []

    def submit() -> None:
        barrier.wait()
        answers.extend(engine.answer(task, 1, idempotency_key="k") for _ in range(2))

    threads = [threading.Thread(target=submit) for _ in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.task_id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 49
    assert engine.count("tasks") == 1


def test_a_key_holds_across_restarts_and_the_same_request_written_differently(
    engines: Engines,
) -> None:
    first = engines()
    task = first.handler(noop)
    task_id = first.submit(
        task,
        idempotency_key="k",
        kwargs={"x": {"a": 1, "b": 2}},
        delay=60,
        metadata={"a": 1, "b": 2},
    )
    first.runtime.close()
    again = engines().answer(
        task,
        idempotency_key="k",
        kwargs={"x": {"b": 2, "a": 1}},
        delay=timedelta(minutes=1),
        metadata={"b": 2, "a": 1},
    )
    assert (again.task_id, again.replayed) == (task_id, True)
    with pytest.raises(IdempotencyConflictError):
        engines().answer(task, idempotency_key="k", kwargs={"x": {"a": 1, "b": 2}}, delay=61)


def test_many_callers_of_one_key_do_not_use_up_the_room_for_others(engines: Engines) -> None:
    engine = engines(max_queue_size=2)
    task = engine.handler(noop)
    answers = engine.runtime.submissions.submit(
        DEFAULT_TENANT,
        [*(engine.ask(task, 1, idempotency_key="k") for _ in range(5)), engine.ask(task, 2)],
    )
    assert len(set(ids(answers))) == 2


def test_a_full_queue_refuses_until_something_has_started(engines: Engines) -> None:
    engine = engines(max_queue_size=2)
    task = engine.handler(noop)
    engine.submit(task)
    engine.submit(task, delay=60)
    with pytest.raises(QueueFullError) as refused:
        engine.submit(task)
    assert refused.value.retry_after_seconds
    engine.start_one()
    engine.submit(task)
    assert engine.runtime.counters.snapshot()["totals"]["rejected"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": 2.5},
        {"max_retries": True},
        {"priority": 7},
        {"delay": float("nan")},
        {"metadata": ["not", "a", "mapping"]},
        {"metadata": {1: "number as key"}},
        {"tags": [1]},
        {"depends_on": [5]},
        {"idempotency_key": "a\x00b"},
        {"name": "\ud800"},
    ],
)
def test_impossible_options_are_refused_by_name(engine: Engine, options: dict[str, Any]) -> None:
    task = engine.handler(noop)
    with pytest.raises(TaskFlowError) as refused:
        engine.submit(task, **options)
    assert isinstance(refused.value, InvalidRequestError | UnknownDependencyError)
    [name] = options
    assert name in refused.value.detail
    assert engine.count("tasks") == 0


def test_after_closing_nothing_is_accepted(engines: Engines) -> None:
    engine = engines()
    task = engine.handler(noop)
    engine.runtime.close()
    with pytest.raises(StoreUnavailableError):
        engine.submit(task)
    with pytest.raises(StoreUnavailableError):
        engine.runtime.tasks.get(DEFAULT_TENANT, "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11")


def test_the_limit_holds_nearly_when_several_processes_fill_the_queue(engines: Engines) -> None:
    processes = [engines(max_queue_size=200) for _ in range(3)]
    task = processes[0].handler(noop)
    refused = 0
    for n in range(600):
        try:
            processes[n % 3].submit(task)
        except QueueFullError:
            refused += 1
    assert refused >= 600 - 220
    assert processes[0].count("tasks") + refused == 600


def never(value: int) -> int:
    return value // 0


Never = Annotated[int, AfterValidator(never)]


def divide(x: Never) -> None: ...


def test_a_validator_that_breaks_refuses_its_own_submission_only(engine: Engine) -> None:
    divided, plain = engine.handler(divide), engine.handler(noop)
    bad, good = engine.runtime.submissions.submit(
        DEFAULT_TENANT, [engine.ask(divided, 1), engine.ask(plain, 1)]
    )
    assert isinstance(bad, InvalidArgumentsError)
    assert "ZeroDivisionError" in bad.detail
    assert isinstance(good, Accepted)
