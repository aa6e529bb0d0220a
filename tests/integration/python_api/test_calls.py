"""One set of calls, one meaning: embedded and over HTTP."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from taskflow.calls.tasks import TaskCalls
from taskflow.core.errors import (
    IdempotencyConflictError,
    InvalidArgumentsError,
    InvalidCursorError,
    InvalidRequestError,
    InvalidTransitionError,
    ResultTimeoutError,
    TaskFailedError,
    TaskFlowError,
    TaskNotFoundError,
    UnknownDependencyError,
    UnknownTaskError,
)
from taskflow.core.registry import Registry
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskPriority, TaskStatus
from taskflow.handle import Progress, TaskHandle
from tests.integration.python_api.samples import PATIENCE_SECONDS, Gate

UNKNOWN_ID = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"


def test_a_task_returns_its_result(calls: TaskCalls) -> None:
    handle = calls.submit("add", 2, b=3)

    assert handle.result(timeout=PATIENCE_SECONDS) == 5
    assert handle.status() is TaskStatus.COMPLETED


def test_a_handler_may_stand_for_its_name(calls: TaskCalls, registry: Registry) -> None:
    assert calls.submit(registry.get("greet"), "Ann").result(PATIENCE_SECONDS) == "Hello Ann"


def test_the_task_knows_everything_it_was_submitted_with(calls: TaskCalls) -> None:
    options = {
        "priority": "high",
        "delay": timedelta(hours=1),
        "expires_in": 7_200,
        "max_retries": 7,
        "timeout": 12.5,
        "tags": ["eu", "night"],
        "metadata": {"order": 7},
        "name": "the nightly one",
    }

    task = calls.options(**options).submit("add", 2).task()

    assert task.status is TaskStatus.SCHEDULED
    assert task.priority is TaskPriority.HIGH
    assert task.run_at - task.created_at == timedelta(hours=1)
    assert task.expires_at is not None
    assert task.expires_at - task.created_at == timedelta(hours=2)
    assert (task.max_retries, task.timeout, task.name) == (7, 12.5, "the nightly one")
    assert (sorted(task.tags), task.metadata) == (["eu", "night"], {"order": 7})
    assert (task.args, task.kwargs) == ([2], {})


def test_values_travel_as_json_and_arrive_as_annotated(calls: TaskCalls) -> None:
    noon = datetime(2030, 2, 3, 12, tzinfo=UTC)

    assert calls.submit("day_of", noon).result(PATIENCE_SECONDS) == "2030-02-03"
    value = {"text": "zoë ∑ 🙂", "list": [1, None, True, 2.5], "big": 2**63 - 1}
    assert calls.submit("anything", value).result(PATIENCE_SECONDS) == value


def test_a_failed_task_raises_with_the_handlers_traceback(calls: TaskCalls) -> None:
    handle = calls.submit("fail", "no such luck")

    with pytest.raises(TaskFailedError, match="failed: ValueError: no such luck") as caught:
        handle.result(PATIENCE_SECONDS)

    assert (caught.value.task_id, caught.value.status) == (handle.id, "failed")
    assert caught.value.error is not None
    assert caught.value.error["classification"] == "permanent"
    assert "raise ValueError(message)" in caught.value.__notes__[0]


def test_waiting_gives_up_and_the_task_goes_on(calls: TaskCalls, gate: Gate) -> None:
    handle = calls.submit("hold")
    assert gate.entered.wait(PATIENCE_SECONDS)

    with pytest.raises(ResultTimeoutError, match=r"still running after 0\.05 s"):
        handle.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        handle.wait(timeout=0)

    gate.opened.set()
    assert handle.result(PATIENCE_SECONDS) == "released"


def test_progress_is_seen_while_it_runs(calls: TaskCalls, gate: Gate) -> None:
    handle = calls.submit("hold")
    assert gate.entered.wait(PATIENCE_SECONDS)

    # Progress is written a few times a second: the first wait that ends after it has it.
    while handle.progress() == Progress(None, None):
        calls.wait(handle.id, 0.05)

    assert handle.progress() == Progress(40, "half way")


def test_handles_can_be_awaited_many_at_once(calls: TaskCalls) -> None:
    handles = calls.submit_many([("add", (n,), {}) for n in range(50)])

    async def main() -> list[int]:
        return await asyncio.gather(*handles)

    assert asyncio.run(main()) == [n + 1 for n in range(50)]


def test_waiting_asynchronously_leaves_the_loop_free_and_gives_up(
    calls: TaskCalls, gate: Gate
) -> None:
    handle = calls.submit("hold")

    async def main() -> str:
        waiting = asyncio.ensure_future(handle.result_async(PATIENCE_SECONDS))
        with pytest.raises(ResultTimeoutError):
            await handle.result_async(timeout=0.05)
        gate.opened.set()  # from the loop: so it was free
        result: str = await waiting
        return result

    assert asyncio.run(main()) == "released"


def test_a_running_task_can_be_cancelled(calls: TaskCalls, gate: Gate) -> None:
    handle = calls.submit("wait_for_cancel")
    assert gate.entered.wait(PATIENCE_SECONDS)

    assert handle.cancel().cancel_requested

    with pytest.raises(TaskFailedError, match="was cancelled") as caught:
        handle.result(PATIENCE_SECONDS)
    assert caught.value.status == "cancelled"


def test_a_waiting_task_is_cancelled_at_once_and_only_once(calls: TaskCalls) -> None:
    handle = calls.options(delay=3_600).submit("add", 1)

    assert handle.cancel().status is TaskStatus.CANCELLED
    with pytest.raises(InvalidTransitionError, match="already"):
        handle.cancel()


def test_a_final_task_can_be_run_anew(calls: TaskCalls) -> None:
    handle = calls.options(max_retries=0).submit("flaky", key="anew", failures=1)
    assert handle.wait(PATIENCE_SECONDS).status is TaskStatus.FAILED

    handle.retry()

    assert handle.result(PATIENCE_SECONDS) == 2
    with pytest.raises(InvalidTransitionError, match="final"):
        calls.options(delay=60).submit("add", 1).retry()


def test_the_history_tells_every_attempt(calls: TaskCalls) -> None:
    handle = calls.submit("flaky", key="history", failures=2)
    handle.wait(PATIENCE_SECONDS)

    events = handle.history()

    assert [event.type.value for event in events] == [
        "task.submitted",
        *["task.started", "task.retrying"] * 2,
        "task.started",
        "task.completed",
    ]
    assert [event.event_id for event in events] == sorted(event.event_id for event in events)


@pytest.mark.parametrize(
    ("submission", "error", "says"),
    [
        (Submission("ad", (1,)), UnknownTaskError, "did you mean 'add'"),
        (Submission("add", ("x",)), InvalidArgumentsError, "a: "),
        (Submission("add", (), {"c": 1, "a": 1}), InvalidArgumentsError, "c: is not an argument"),
        (Submission("anything", (float("nan"),)), InvalidArgumentsError, "NaN"),
        (Submission("anything", (2**64,)), InvalidArgumentsError, "64 bit"),
        (Submission("anything", (object(),)), InvalidArgumentsError, "object"),
        (
            Submission("add", (1,), {}, SubmitOptions(depends_on=(UNKNOWN_ID,))),
            UnknownDependencyError,
            UNKNOWN_ID,
        ),
    ],
)
def test_what_cannot_run_is_refused_and_nothing_stored(
    calls: TaskCalls,
    submission: Submission,
    error: type[TaskFlowError] | tuple[type[TaskFlowError], ...],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        calls.submit_task(submission)

    assert calls.list().items == []


def test_a_dependent_task_may_name_handles(calls: TaskCalls) -> None:
    first = calls.submit("add", 1)
    second = calls.options(depends_on=[first]).submit("add", 2)

    assert second.result(PATIENCE_SECONDS) == 3
    assert second.task().depends_on == [first.id]


def test_the_same_idempotency_key_makes_one_task(calls: TaskCalls) -> None:
    once = calls.options(idempotency_key="order-7").submit("add", 1)
    again = calls.options(idempotency_key="order-7").submit("add", 1)

    assert (again.id, once.replayed, again.replayed) == (once.id, False, True)
    with pytest.raises(IdempotencyConflictError):
        calls.options(idempotency_key="order-7").submit("add", 2)


def test_without_a_key_equal_submissions_are_two_tasks(calls: TaskCalls) -> None:
    one, other = calls.submit("add", 1), calls.submit("add", 1)

    assert one.id != other.id
    assert not other.replayed


def test_many_are_answered_in_order_over_several_batches(calls: TaskCalls) -> None:
    handles = calls.submit_many(("add", (n,), {}) for n in range(2_100))

    assert len({handle.id for handle in handles}) == 2_100
    assert [calls.get(handles[i].id).args for i in (0, 1_000, 2_099)] == [[0], [1_000], [2_099]]


def test_the_first_error_of_many_is_raised_once_its_batch_was_answered(calls: TaskCalls) -> None:
    read: list[int] = []

    def submissions() -> object:
        for n in range(1_500):
            read.append(n)
            yield ("add", (n,), {}) if n != 3 else ("nope", (), {})

    with pytest.raises(UnknownTaskError) as caught:
        calls.submit_many(submissions())  # type: ignore[arg-type]

    assert "Item 3" in caught.value.__notes__[0]
    assert "999 of the first 1000" in caught.value.__notes__[0]
    assert len(read) == 1_000
    assert calls.metrics()["queue"]["completed_count"] <= 999


def test_many_may_be_answered_one_by_one(calls: TaskCalls) -> None:
    good, unknown, wrong, unsendable = calls.submit_many(
        [
            Submission("add", (1,)),
            ("nope", (), {}),
            ("add", ("x",), {}),
            ("anything", (object(),), {}),
        ],
        return_errors=True,
    )

    assert isinstance(good, TaskHandle)
    assert good.result(PATIENCE_SECONDS) == 2
    assert isinstance(unknown, UnknownTaskError)
    assert isinstance(wrong, InvalidArgumentsError)
    assert isinstance(unsendable, InvalidArgumentsError)


def test_nothing_and_nonsense_as_many(calls: TaskCalls) -> None:
    assert calls.submit_many([]) == []
    with pytest.raises(InvalidRequestError, match="item 1 is neither"):
        calls.submit_many([("add", (1,), {}), "add"])  # type: ignore[list-item]


def test_lists_are_filtered_and_paged(calls: TaskCalls) -> None:
    later = calls.options(delay=3_600, tags=["eu"], priority="low", name="Report 7")
    ids = [later.submit("add", n).id for n in range(5)]
    calls.submit("fail").wait(PATIENCE_SECONDS)

    first = calls.list(status="scheduled", limit=3)
    rest = calls.list(status="scheduled", limit=3, cursor=first.next_cursor)

    assert [task.task_id for task in first.items + rest.items] == ids[::-1]
    assert rest.next_cursor is None
    assert [task.task for task in calls.list(status=["failed", "expired"]).items] == ["fail"]
    for filters in ({"tag": "eu"}, {"priority": "low"}, {"q": "report"}, {"task": "add"}):
        assert {task.task_id for task in calls.list(**filters).items} == set(ids)
    now = datetime.now(UTC)
    assert calls.list(created_after=now + timedelta(minutes=1)).items == []
    assert len(calls.list(created_before=now + timedelta(minutes=1)).items) == 6


def test_wrong_filters_are_named(calls: TaskCalls) -> None:
    with pytest.raises(InvalidRequestError, match="status: 'done'"):
        calls.list(status="done")
    with pytest.raises(InvalidRequestError, match="status: 'int'"):
        calls.list(status=5)
    with pytest.raises(InvalidRequestError, match="unknown filter 'state'; there are status, task"):
        calls.list(state="failed")
    with pytest.raises(InvalidRequestError, match="created_after: must be a datetime"):
        calls.list(created_after="2030-01-01")
    with pytest.raises(InvalidRequestError, match="q: must be a text"):
        calls.list(q=5)
    with pytest.raises(InvalidRequestError, match="time zone"):
        calls.list(created_after=datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidCursorError):
        calls.list(cursor="not a cursor")


@pytest.mark.parametrize("limit", [0, -1])
def test_pages_have_room_for_something(calls: TaskCalls, limit: int) -> None:
    calls.submit("fail").wait(PATIENCE_SECONDS)
    for pages in (calls.list, calls.dead_letters.list, calls.dead_letters.groups):
        with pytest.raises(InvalidRequestError, match="limit: "):
            pages(limit=limit)


def test_an_unknown_id_is_not_found_whatever_is_asked(calls: TaskCalls) -> None:
    for task_id in (UNKNOWN_ID, "../admin", "", "0199A3C1-5E2F-7A41-9C1D-0F6F6B8F2C11"):
        handle = calls.handle(task_id)
        for ask in (handle.task, handle.cancel, handle.retry, handle.history, handle.wait):
            with pytest.raises(TaskNotFoundError):
                ask()


def test_dead_letters_are_grouped_redriven_and_discarded(calls: TaskCalls) -> None:
    handles = [calls.submit("fail", f"order {n}") for n in range(3)]
    other = calls.options(max_retries=0).submit("flaky", key="dead", failures=1)
    for handle in [*handles, other]:
        handle.wait(PATIENCE_SECONDS)
    dead = calls.dead_letters

    largest, smallest = dead.groups()
    assert (largest.task, largest.count, largest.error_type) == ("fail", 3, "ValueError")
    assert (smallest.task, smallest.count) == ("flaky", 1)
    assert len(dead.groups(limit=1)) == 1
    assert len(dead.groups(limit=500)) == 2
    assert len(dead.list(fingerprint=largest.fingerprint).items) == 3
    assert len(dead.list(limit=2).items) == 2

    assert dead.redrive([other.id]) == 1
    assert other.result(PATIENCE_SECONDS) == 2
    assert dead.discard(task="fail") == 3
    assert dead.list().items == []
    assert handles[0].status() is TaskStatus.FAILED


def test_an_empty_choice_of_dead_letters_never_means_all(calls: TaskCalls) -> None:
    calls.submit("fail").wait(PATIENCE_SECONDS)

    assert calls.dead_letters.discard([]) == 0
    assert calls.dead_letters.redrive([]) == 0
    assert calls.dead_letters.redrive(UNKNOWN_ID) == 0
    for choice in ({}, {"task_ids": [UNKNOWN_ID], "all": True}):
        with pytest.raises(InvalidRequestError, match="choose dead letters"):
            calls.dead_letters.discard(**choice)  # type: ignore[arg-type]
    assert len(calls.dead_letters.list().items) == 1


def test_handlers_tell_what_they_take(calls: TaskCalls) -> None:
    known = {handler.name: handler for handler in calls.handlers()}

    assert {"add", "echo"} <= known.keys()
    assert known["add"].description == "Add two numbers."
    assert known["add"].arguments["required"] == ["a"]
    assert (known["add"].max_retries, known["add"].priority) == (3, TaskPriority.NORMAL)
    assert known["greet"].executor == "asyncio"


def test_metrics_and_workers_tell_what_goes_on(calls: TaskCalls) -> None:
    calls.submit("add", 1).wait(PATIENCE_SECONDS)

    assert calls.metrics()["queue"]["completed_count"] == 1
    [worker] = calls.workers()
    assert worker.status == "running"
    assert worker.seen_at >= worker.started_at > datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6


def test_options_are_checked_before_anything_is_sent(calls: TaskCalls) -> None:
    with pytest.raises(InvalidRequestError, match="unknown option 'prio'"):
        calls.options(prio=1)
    with pytest.raises(InvalidRequestError, match="needs a task's name"):
        calls.submit(Decimal(1))  # type: ignore[arg-type]
