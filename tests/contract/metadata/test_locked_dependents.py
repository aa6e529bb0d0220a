"""A caller's open transaction holds a task that has to end with another one: nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace

import psycopg2
import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata import contention
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.postgresql import PostgresqlOptions
from taskflow.core.errors import StoreLockedError
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import ExpireResult, TaskKey
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome

S = TaskStatus
DAY_SECONDS = 86_400.0


@pytest.fixture
def harness(postgres_store: str) -> Iterator[MetadataHarness]:
    """Whoever waits for a lock fails soon."""
    clock = FakeClock()
    options = PostgresqlOptions(statement_timeout_seconds=5.0)
    database = Database(postgres_store, clock=clock, postgresql=options)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


@contextmanager
def open_submission(harness: MetadataHarness, parent: TaskKey) -> Iterator[TaskKey]:
    """Of a task that depends on ``parent``, in a transaction that is committed in the end; its key."""
    new = harness.new(depends_on=(parent.task_id,))
    url = harness.database.url.render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as callers:
        harness.submissions.insert_within(callers, [new], max_waiting=0)
        yield TaskKey("default", new.id)
        callers.commit()


def chain(harness: MetadataHarness, *parents: TaskKey, length: int) -> list[TaskKey]:
    """Tasks that depend one on the other, the first one on ``parents``."""
    keys: list[TaskKey] = []
    last: tuple[TaskKey, ...] = parents
    for _ in range(length):
        keys.append(harness.accepted(depends_on=tuple(key.task_id for key in last)))
        last = (keys[-1],)
    return keys


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED])
@pytest.mark.parametrize("held", [0, 1, 2])
def test_an_outcome_with_which_it_would_fail_is_given_again_and_all_others_are_written(
    harness: MetadataHarness, status: TaskStatus, held: int
) -> None:
    stuck, failing, completed = (harness.accepted() for _ in range(3))
    below = chain(harness, stuck, length=3)
    [other] = chain(harness, failing, length=1)
    [released] = chain(harness, completed, length=1)
    tasks = harness.claim(stuck, failing, completed)
    ends = [outcome(t, s) for t, s in zip(tasks, [status, status, S.COMPLETED], strict=True)]
    with open_submission(harness, below[held]) as late:
        result = harness.finish_once(*ends)
        assert (result.locked, result.fenced) == ([ends[0]], [])
        assert set(result.ended) == {failing, completed, other}
        assert [entry.message.task_id for entry in result.to_send] == [released.task_id]
        assert harness.status(stuck) == "running"
        assert [harness.status(key) for key in below] == ["blocked"] * 3
        assert harness.finish_once(ends[0]).locked == [ends[0]]
    result = harness.finish_once(ends[0])
    assert (result.locked, set(result.ended)) == ([], {stuck, *below, late})
    assert [harness.status(key) for key in (*below, late)] == ["failed"] * 4
    assert harness.insights.counts(None).by_status[S.FAILED] == 5 + 2 * (status is S.FAILED)


def test_every_outcome_that_leads_to_it_is_given_again(harness: MetadataHarness) -> None:
    """By ways of different length; not one that does not end what depends on it."""
    one, two, three, four = (harness.accepted() for _ in range(4))
    middle = chain(harness, one, length=2)
    held = harness.accepted(depends_on=(middle[-1].task_id, two.task_id))
    [other] = chain(harness, three, four, length=1)
    tasks = harness.claim(one, two, three, four)
    ends = [outcome(t, s) for t, s in zip(tasks, [S.FAILED] * 3 + [S.COMPLETED], strict=True)]
    with open_submission(harness, held):
        result = harness.finish_once(*ends)
        assert set(result.locked) == {ends[0], ends[1]}
        assert set(result.ended) == {three, four, other}
    assert set(harness.finish_once(ends[1]).ended) >= {two, held}
    assert set(harness.finish_once(ends[0]).ended) == {one, *middle}


def test_an_attempt_that_ends_because_it_was_to_be_cancelled_waits_as_well(
    harness: MetadataHarness,
) -> None:
    key = harness.accepted()
    [child] = chain(harness, key, length=1)
    [task] = harness.claim(key)
    harness.tasks.cancel([key])
    again = outcome(task, S.RETRYING, retry_delay_seconds=60.0)
    with open_submission(harness, child):
        assert harness.finish_once(again).locked == [again]
    assert harness.finish_once(again).ended[:2] == [key, child]
    assert (harness.status(key), harness.status(child)) == ("cancelled", "failed")


@pytest.mark.parametrize("held", [0, 1, 2])
def test_cancelling_is_refused_after_a_moment(harness: MetadataHarness, held: int) -> None:
    keys = chain(harness, harness.accepted(delay_seconds=60.0), length=3)
    with open_submission(harness, keys[held]) as late:
        with pytest.raises(StoreLockedError, match="nothing was written") as error:
            harness.tasks.cancel(keys[:1])
        assert error.value.retry_after_seconds == 1.0
        assert [harness.status(key) for key in keys] == ["blocked"] * 3
    assert set(harness.tasks.cancel(keys[:1]).ended) == {*keys, late}
    assert [harness.status(key) for key in (*keys, late)] == ["cancelled"] + ["failed"] * 3


def test_cancelling_goes_on_when_the_transaction_ends_in_time(
    harness: MetadataHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = chain(harness, harness.accepted(delay_seconds=60.0), length=2)
    url = harness.database.url.render_as_string(hide_password=False)
    with closing(psycopg2.connect(url)) as other:
        other.cursor().execute(f"SELECT 1 FROM tasks WHERE id = '{keys[1].task_id}' FOR SHARE")
        pauses = SimpleNamespace(sleep=lambda _: other.rollback())
        monkeypatch.setattr(contention, "time", pauses)
        assert harness.tasks.cancel(keys[:1]).ended == keys


@pytest.mark.parametrize("held", [0, 1, 2])
def test_what_expires_comes_back_and_all_others_expire(harness: MetadataHarness, held: int) -> None:
    stuck, free = (harness.accepted(delay_seconds=600.0, expires_in_seconds=60.0) for _ in range(2))
    below = [stuck, *chain(harness, stuck, length=2)]
    [other] = chain(harness, free, length=1)
    harness.advance(61)
    with open_submission(harness, below[held]) as late:
        assert harness.execution.expire(limit=1) == ExpireResult([free], [other])
        assert harness.execution.expire(limit=1) == ExpireResult([], [])
    result = harness.execution.expire(limit=1)
    assert (result.expired, set(result.failed)) == ([stuck], {*below[1:], late})


def test_running_anew_is_refused_after_a_moment(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [child] = chain(harness, key, length=1)
    harness.run(key, S.FAILED)

    def redrive() -> list[TaskKey]:
        return harness.tasks.redrive(
            [key], delay_seconds=[0.0], max_queue_delay_seconds=0.0, outbox=False
        ).redriven

    for held in (key, child):
        with open_submission(harness, held), pytest.raises(StoreLockedError):
            redrive()
        assert harness.status(key) == "failed"
    assert redrive()[:2] == [key, child]


def test_deleting_leaves_it_for_later(harness: MetadataHarness) -> None:
    held, free = harness.accepted(), harness.accepted()
    for key in (held, free):
        harness.run(key, S.COMPLETED)
    harness.advance(DAY_SECONDS)
    before = harness.database.now() - 1
    with open_submission(harness, held):
        assert harness.retention.purge(finished_before=before, limit=10)[0] == 1
        assert harness.status(held) == "completed"
    assert harness.retention.purge(finished_before=before, limit=10)[0] == 1


def test_a_task_whose_row_is_gone_keeps_nobody_waiting(harness: MetadataHarness) -> None:
    """Deleted by hand: what it depended on ends all the same."""
    key = harness.accepted()
    [child] = chain(harness, key, length=1)
    with harness.database.engine.begin() as connection:
        connection.execute(sa.text(f"DELETE FROM tasks WHERE id = '{child.task_id}'"))
    assert harness.run(key, S.FAILED).ended == [key]
