"""What only happens between transactions that are open at the same time: PostgreSQL has several writers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.core.errors import IdempotencyConflictError
from taskflow.core.ids import UUID7
from taskflow.core.submission import Accepted
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import InsertResult
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.postgres import BLOCKED
from tests.support.waiting import wait_for


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


def at_once(*work: Callable[[], object]) -> list[BaseException]:
    """All begin at the same moment. Returns what they raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(work))

    def run(item: Callable[[], object]) -> None:
        barrier.wait()
        try:
            item()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(item,)) for item in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


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
            lambda next_=next_: harness.tasks.cancel(next_),  # type: ignore[misc]
            lambda last=last: harness.tasks.cancel(last),  # type: ignore[misc]
        )
    assert errors == []
    ended = harness.insights.counts(None).by_status
    assert ended[TaskStatus.CANCELLED] + ended[TaskStatus.FAILED] == 15 * 4 * 3


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
