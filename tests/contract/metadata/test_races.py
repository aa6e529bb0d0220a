"""What only happens between transactions that are open at the same time: PostgreSQL has several writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import psycopg2
import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.migrate import migrate
from taskflow.adapters.metadata.postgresql import PostgresqlOptions
from taskflow.adapters.metadata.resending import SqlResending
from taskflow.core.errors import CommitUnknownError, IdempotencyConflictError, StoreUnavailableError
from taskflow.core.ids import UUID7
from taskflow.core.submission import Accepted
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import (
    ClaimedTask,
    FinishResult,
    HeartbeatResult,
    InsertResult,
    Lease,
    Outcome,
    TaskKey,
)
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.at_once import at_once
from tests.support.postgres import BLOCKED
from tests.support.waiting import wait_for

DAY_SECONDS = 86_400.0


@pytest.fixture
def database_url(postgres_store: str) -> str:
    return postgres_store


@pytest.fixture
def harness(database_url: str) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(database_url, clock=clock)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


T = TypeVar("T")


def behind(harness: MetadataHarness, change: str, ask: Callable[[], T]) -> T:
    """What ``ask`` returns that has begun before another transaction's ``change`` was committed, and waits for that."""
    answers: list[T] = []
    asking = threading.Thread(target=lambda: answers.append(ask()))
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql(change)
        asking.start()
        wait_for_a_blocked_transaction(harness)
    asking.join(10)
    [answer] = answers
    return answer


def meeting(
    harness: MetadataHarness, change: str, *outcomes: Outcome, locked: Sequence[ClaimedTask]
) -> FinishResult:
    """What becomes of ``outcomes``, given before another transaction's ``change`` is committed, and again after it."""
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql(change)
        first = harness.finish_once(*outcomes, outbox=True)
    assert {o.task_id for o in first.locked} == {task.task_id for task in locked}
    assert first.fenced == []
    second = harness.finish(*first.locked, outbox=True)
    return FinishResult(
        second.fenced, [*first.to_send, *second.to_send], [*first.ended, *second.ended], []
    )


def wait_for_a_blocked_transaction(harness: MetadataHarness) -> None:
    def is_any_blocked() -> bool:
        with harness.database.read() as connection:
            return bool(connection.scalar(sa.text(BLOCKED)))

    wait_for(is_any_blocked, "a transaction waits for another one")


def test_repetitions_of_a_key_that_another_process_takes_meanwhile_get_its_task(
    harness: MetadataHarness,
) -> None:
    theirs = harness.new_id()
    key = {"idempotency_key": "k", "request_hash": "h"}
    mine = [harness.new(**key) for _ in range(3)]
    other, free = harness.new(idempotency_key="k", request_hash="x"), harness.new()
    results: list[InsertResult] = []
    submit = threading.Thread(
        target=lambda: results.append(harness.insert(*mine, other, free, outbox=True))
    )
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tasks (tenant_id, id, task, status, priority, max_retries,"
            " timeout_seconds, run_at, created_at)"
            f" VALUES ('default', '{theirs}', 'noop', 'pending', 2, 3, 300, 1, 1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO idempotency_keys (tenant_id, key, task_id, request_hash)"
            f" VALUES ('default', 'k', '{theirs}', 'h')"
        )
        submit.start()
        wait_for_a_blocked_transaction(harness)
    submit.join(10)
    [result] = results
    for answer in result.answers[:3]:
        assert isinstance(answer, Accepted)
        assert (answer.task_id, answer.replayed) == (theirs, True)
    assert isinstance(result.answers[3], IdempotencyConflictError)
    assert isinstance(result.answers[4], Accepted)
    assert [entry.message.task_id for entry in result.to_send] == [free.id]
    assert harness.count("tasks") == 2


def test_transactions_that_take_the_same_rows_in_another_order_do_not_end_each_other(
    harness: MetadataHarness,
) -> None:
    """Deadlocks: claims of one batch, keys of one batch, and new dependents of tasks that are finishing."""
    errors: list[BaseException] = []
    for round_ in range(15):
        keys = [harness.accepted() for _ in range(12)]
        claimed = harness.claim(*[harness.accepted() for _ in range(12)])
        parents = tuple(task.task_id for task in claimed)

        def submit(order: int, round_: int = round_) -> None:
            names = [f"{round_}-{n}" for n in range(12)][::order]
            harness.insert(*(harness.new(idempotency_key=n, request_hash="h") for n in names))

        def depend(order: int, parents: tuple[str, ...] = parents) -> None:
            harness.insert(harness.new(depends_on=parents[::order]))

        work: list[Callable[[], object]] = [
            lambda keys=keys: harness.claim(*keys),
            lambda keys=keys: harness.claim(*keys[::-1]),
            lambda: submit(1),
            lambda: submit(-1),
            lambda: depend(-1),
            lambda claimed=claimed: harness.finish(
                *(outcome(task, TaskStatus.COMPLETED) for task in claimed)
            ),
        ]
        errors += at_once(*work)
    assert errors == []


def test_tasks_that_fail_with_all_that_depends_on_them_do_not_end_each_other(
    harness: MetadataHarness,
) -> None:
    """They want the same tallies and the same dependents."""
    errors: list[BaseException] = []
    for _ in range(15):
        ours = harness.claim(*[harness.accepted(task="a") for _ in range(4)])
        theirs = harness.claim(*[harness.accepted(task="b") for _ in range(4)])
        for one, other in zip(ours, theirs, strict=True):
            harness.insert(
                harness.new(task="b", depends_on=(one.task_id,)),
                harness.new(task="a", depends_on=(other.task_id,)),
                harness.new(task="a", depends_on=(one.task_id, other.task_id)),
            )
        errors += at_once(
            lambda ours=ours: harness.finish(*(outcome(t, TaskStatus.FAILED) for t in ours)),  # type: ignore[misc]
            lambda theirs=theirs: harness.finish(*(outcome(t, TaskStatus.FAILED) for t in theirs)),  # type: ignore[misc]
        )
    assert errors == []
    assert harness.insights.counts(None).by_status[TaskStatus.FAILED] == 15 * 4 * 5


def test_chains_that_are_cancelled_at_every_link_do_not_end_each_other(
    harness: MetadataHarness,
) -> None:
    errors: list[BaseException] = []
    for _ in range(15):
        running = harness.claim(*[harness.accepted(task="a") for _ in range(4)])
        next_ = [harness.accepted(task="b", depends_on=(task.task_id,)) for task in running]
        last = [harness.accepted(task="a", depends_on=(key.task_id,)) for key in next_]
        errors += at_once(
            lambda running=running: harness.finish(  # type: ignore[misc]
                *(outcome(task, TaskStatus.CANCELLED) for task in running)
            ),
            lambda next_=next_: harness.cancel(*next_),  # type: ignore[misc]
            lambda last=last: harness.cancel(*last),  # type: ignore[misc]
        )
    assert errors == []
    ended = harness.insights.counts(None).by_status
    assert ended[TaskStatus.CANCELLED] + ended[TaskStatus.FAILED] == 15 * 4 * 3


def test_what_goes_with_the_commit_and_fails_is_known_not_to_be_committed(
    harness: MetadataHarness, database_url: str
) -> None:
    harness.run(harness.accepted(), TaskStatus.COMPLETED)
    [task] = harness.claim(harness.accepted())
    options = PostgresqlOptions(statement_timeout_seconds=0.2)
    hasty = Database(database_url, clock=harness.clock, postgresql=options)
    other = MetadataHarness(hasty, harness.clock, harness.new_id)
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE tallies")
        with pytest.raises(StoreUnavailableError, match="STATEMENT_TIMEOUT") as error:
            other.finish(outcome(task, TaskStatus.COMPLETED))
    assert not isinstance(error.value, CommitUnknownError)
    hasty.close()
    assert harness.status(TaskKey("default", task.task_id)) == "running"
    assert harness.finish(outcome(task, TaskStatus.COMPLETED)).fenced == []


def test_a_claim_waits_for_nobody(harness: MetadataHarness) -> None:
    """What somebody else holds at that moment comes back shortly; everything else starts."""
    held, free = harness.accepted(), harness.accepted()
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM tasks WHERE id = '{held.task_id}' FOR SHARE")
        result = harness.execution.claim([held, free], worker_id="w1", lease_seconds=30)
    assert [task.task_id for task in result.tasks] == [free.task_id]
    [unclaimed] = result.unclaimed
    assert unclaimed.key == held
    assert unclaimed.retry_in_seconds is not None
    assert 0 < unclaimed.retry_in_seconds < 1
    assert harness.claim(held)[0].attempt == 1


def test_only_the_end_of_a_task_waits_for_a_transaction_that_submits_a_dependent(
    harness: MetadataHarness, database_url: str
) -> None:
    """It may be a caller's, and take its time: leases are not lost over it."""
    waiting, [running] = harness.accepted(), harness.claim(harness.accepted())
    lease = Lease("default", running.task_id, running.lease_token, 50.0, "half")
    child = harness.new(depends_on=(waiting.task_id, running.task_id))
    end = outcome(running, TaskStatus.COMPLETED)
    with closing(psycopg2.connect(database_url)) as callers:
        harness.submissions.insert_within(callers, [child], max_waiting=0)
        assert harness.execution.heartbeat([lease], lease_seconds=30) == HeartbeatResult([], [])
        [started] = harness.claim(waiting)
        key = TaskKey("default", running.task_id)
        result = harness.finish_once(end)
        assert (result.locked, result.fenced, result.ended) == ([end], [], [])
        assert harness.status(key) == "running"
        callers.commit()
    assert harness.finish_once(end) == FinishResult([], [], [key], [])
    assert harness.status(TaskKey("default", child.id)) == "blocked"
    harness.finish(outcome(started, TaskStatus.COMPLETED))
    assert harness.status(TaskKey("default", child.id)) == "pending"


def test_who_is_released_may_have_got_a_dependent_in_a_transaction_that_stays_open(
    harness: MetadataHarness, database_url: str
) -> None:
    """The outcome of its parent does not wait for that, nor all others with it."""
    [parent] = harness.claim(harness.accepted())
    child = harness.accepted(depends_on=(parent.task_id,))
    grandchild = harness.new(depends_on=(child.task_id,))
    hasty = Database(
        database_url,
        clock=harness.clock,
        postgresql=PostgresqlOptions(statement_timeout_seconds=2.0),
    )
    finisher = MetadataHarness(hasty, harness.clock, harness.new_id)
    with closing(psycopg2.connect(database_url)) as callers:
        harness.submissions.insert_within(callers, [grandchild], max_waiting=0)
        finisher.finish(outcome(parent, TaskStatus.COMPLETED))
        assert harness.status(child) == "pending"
        callers.commit()
    hasty.close()
    harness.run(child, TaskStatus.COMPLETED)
    assert harness.status(TaskKey("default", grandchild.id)) == "pending"


def test_a_new_dependent_waits_for_a_task_that_is_ending(harness: MetadataHarness) -> None:
    [parent] = harness.claim(harness.accepted())
    child = harness.new(depends_on=(parent.task_id,))
    behind(
        harness,
        f"SELECT 1 FROM tasks WHERE id = '{parent.task_id}' FOR UPDATE;"
        "UPDATE tasks SET status = 'completed', finished_at = 1, lease_token = NULL"
        f" WHERE id = '{parent.task_id}'",
        lambda: harness.insert(child),
    )
    assert harness.status(TaskKey("default", child.id)) == "pending"


def test_workers_with_the_same_messages_start_each_task_once(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(40)]
    started: list[str] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        left = keys[number * 10 :] + keys[: number * 10]
        while left:
            result = harness.execution.claim(left, worker_id=f"w{number}", lease_seconds=30)
            started.extend(task.task_id for task in result.tasks)
            left = [u.key for u in result.unclaimed if u.retry_in_seconds is not None]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == sorted(key.task_id for key in keys)


def two_running(harness: MetadataHarness) -> list[ClaimedTask]:
    return harness.claim(*[harness.accepted() for _ in range(2)])


def test_an_outcome_meets_a_request_to_cancel_its_task(harness: MetadataHarness) -> None:
    first, second = two_running(harness)
    again = [outcome(t, TaskStatus.RETRYING, retry_delay_seconds=60.0) for t in (first, second)]
    result = meeting(
        harness,
        f"UPDATE tasks SET cancel_requested = 1 WHERE id = '{first.task_id}'",
        *again,
        locked=[first],
    )
    key = TaskKey("default", first.task_id)
    assert (result.fenced, result.ended) == ([], [key])
    assert [entry.message.task_id for entry in result.to_send] == [second.task_id]
    task = harness.task(key)
    assert (task.status, task.finished_at is not None) == ("cancelled", True)
    assert harness.history(key)[2:] == ["cancelled"]
    assert harness.insights.counts(None).by_status[TaskStatus.CANCELLED] == 1


def test_an_outcome_meets_a_heartbeat(harness: MetadataHarness) -> None:
    tasks = two_running(harness)
    result = meeting(
        harness,
        "UPDATE tasks SET lease_until = lease_until + 1000000, progress = 50",
        *(outcome(task, TaskStatus.COMPLETED) for task in tasks),
        locked=tasks,
    )
    assert (result.fenced, len(result.ended)) == ([], 2)
    for task in tasks:
        stored = harness.task(TaskKey("default", task.task_id))
        assert (stored.status, stored.progress) == ("completed", 50)


def test_an_outcome_meets_whoever_takes_its_task_over(harness: MetadataHarness) -> None:
    first, second = two_running(harness)
    result = meeting(
        harness,
        f"UPDATE tasks SET lease_token = 777, attempt = 2 WHERE id = '{first.task_id}'",
        *(outcome(t, TaskStatus.COMPLETED) for t in (first, second)),
        locked=[first],
    )
    key = TaskKey("default", first.task_id)
    assert [late.task_id for late in result.fenced] == [first.task_id]
    assert (harness.status(key), harness.history(key)) == ("running", ["submitted", "started"])
    assert harness.count("task_results") == 1
    assert harness.insights.counts(None).by_status[TaskStatus.COMPLETED] == 1


def test_an_outcome_meets_another_one_of_the_same_attempt(harness: MetadataHarness) -> None:
    """Of a worker that was taken to be dead, and of who recovered its task."""
    for _ in range(15):
        tasks = harness.claim(*[harness.accepted() for _ in range(8)])
        results: list[FinishResult] = []

        def finish(
            kind: TaskStatus,
            tasks: list[ClaimedTask] = tasks,
            results: list[FinishResult] = results,
        ) -> None:
            results.append(harness.finish(*(outcome(task, kind) for task in tasks)))

        errors = at_once(
            lambda finish=finish: finish(TaskStatus.COMPLETED),  # type: ignore[misc]
            lambda finish=finish, tasks=tasks: finish(TaskStatus.RETRYING, tasks[::-1]),  # type: ignore[misc]
            lambda finish=finish: finish(TaskStatus.PENDING),  # type: ignore[misc]
        )
        assert errors == []
        assert sum(len(result.fenced) for result in results) == 2 * 8
        for task in tasks:
            assert len(harness.history(TaskKey("default", task.task_id))) == 3


def test_an_outcome_meets_a_new_dependent(harness: MetadataHarness) -> None:
    """Which has locked its parent, and is not there yet when the outcome begins to be written."""
    [parent] = harness.claim(harness.accepted())
    child = harness.new_id()
    values = f"VALUES ('default', '{child}', 'noop', 'blocked', 2, 3, 300, 1, 1, 1)"
    result = meeting(
        harness,
        f"SELECT 1 FROM tasks WHERE id = '{parent.task_id}' FOR SHARE; "
        "INSERT INTO tasks (tenant_id, id, task, status, priority, max_retries, timeout_seconds,"
        f" run_at, created_at, waits_for) {values};"
        "INSERT INTO task_inputs (tenant_id, task_id, arguments)"
        f" VALUES ('default', '{child}', '[[],{{}}]');"
        "INSERT INTO task_dependencies (tenant_id, depends_on, task_id)"
        f" VALUES ('default', '{parent.task_id}', '{child}')",
        outcome(parent, TaskStatus.COMPLETED),
        locked=[parent],
    )
    assert [entry.message.task_id for entry in result.to_send] == [child]
    assert harness.status(TaskKey("default", child)) == "pending"


def test_processes_that_resend_at_once_resend_each_task_once(harness: MetadataHarness) -> None:
    """One may begin to look before another has committed, and come to a task when it is unlocked again."""
    store = SqlResending(harness.database, Journal(harness.database, harness.new_id))
    rounds, count, processes = 6, 300, 6
    resent: list[int] = []
    for _ in range(rounds):
        for _ in range(count):
            harness.accepted()
        harness.advance(4 * DAY_SECONDS)
        barrier = threading.Barrier(processes)

        def work(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            while found := store.resend(silent_seconds=3 * DAY_SECONDS, limit=100):
                resent.append(found)

        threads = [threading.Thread(target=work) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(resent) == harness.count("outbox") == rounds * count
