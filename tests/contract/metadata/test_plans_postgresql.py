"""PostgreSQL finds what is asked for among a million tasks without looking at the others.

Every statement that an operation makes is explained, with the pages that it touched, right before it runs.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import psycopg2.extensions
import pytest
import sqlalchemy as sa

from benchmarks.postgresql import stored
from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.artifacts import SqlArtifacts
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.inspection import SqlInspection
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.resending import SqlResending
from taskflow.adapters.metadata.transaction import Prepared
from taskflow.bootstrap.stores import build_stores
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.ports.clock import Clock
from taskflow.ports.metadata import (
    Lease,
    NewArtifact,
    OutboxEntry,
    StartNow,
    TaskFilter,
    TaskKey,
    WorkerRecord,
)
from taskflow.ports.queue import Message
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.cutting_proxy import cutting_proxy
from tests.support.postgres import Postgres

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("million"),
    pytest.mark.timeout(900),
]

TASKS = 1_000_000
# Of 8 KiB. A sequential look at the tasks alone would be 20,000; a page of fifty tasks, whole, takes some hundreds.
MOST_PAGES = 1_500
LARGE = {
    "tasks", "task_inputs", "task_results", "events", "idempotency_keys", "task_tags", "task_dependencies",
}  # fmt: skip
S = TaskStatus
_BEFORE = re.compile(r"\A(?:(?:BEGIN|SET LOCAL \w+ = \w+); )+")  # in the same round trip


class Explained(NamedTuple):
    statement: str
    pages: int
    steps: list[dict[str, Any]]

    @property
    def scanned(self) -> set[str]:
        """Large tables that were read from end to end."""
        return {
            step["Relation Name"]
            for step in self.steps
            if step["Node Type"] == "Seq Scan" and step["Relation Name"] in LARGE
        }

    @property
    def indexes(self) -> set[str]:
        return {step["Index Name"] for step in self.steps if "Index Name" in step}


class _Explaining(psycopg2.extensions.cursor):
    """Explains what it is about to execute. What explaining has written is undone."""

    found: list[Explained] | None = None
    texts: ClassVar[set[str]] = set()  # of all that was found, before their parameters were put in

    def mogrify(self, query: Any, parameters: Any = None) -> bytes:
        if _Explaining.found is not None and isinstance(query, str):
            _Explaining.texts.add(_BEFORE.sub("", query))
        return super().mogrify(query, parameters)

    def execute(self, query: Any, parameters: Any = None) -> None:
        found = _Explaining.found
        if found is not None:
            text = self.mogrify(query, parameters).decode()
            statement = _BEFORE.sub("", text).removesuffix("; COMMIT")
            if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
                found.append(self._explain(statement))
        super().execute(query, parameters)

    def _explain(self, statement: str) -> Explained:
        # Not this one: it may be a cursor of the server's, which declares what it is told to execute.
        plain = self.connection.cursor(cursor_factory=psycopg2.extensions.cursor)
        run = plain.execute
        within = self.connection.info.transaction_status != 0
        run("SAVEPOINT explained" if within else "BEGIN")
        run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        [[plans]] = plain.fetchall()
        plan = (json.loads(plans) if isinstance(plans, str) else plans)[0]["Plan"]
        run("ROLLBACK TO SAVEPOINT explained" if within else "ROLLBACK")
        pages = plan.get("Shared Hit Blocks", 0) + plan.get("Shared Read Blocks", 0)
        return Explained(statement, pages, list(_steps(plan)))


class _Remembering(Database):
    """Knows every statement that it was given to prepare."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url, clock=clock)
        self.prepared: list[Prepared] = []

    def prepare(self, statement: sa.sql.expression.ClauseElement) -> Prepared:
        self.prepared.append(super().prepare(statement))
        return self.prepared[-1]


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _steps(inner)


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> str:
    """Used by this file's tests alone, and as it is: a copy of it would take long."""
    name = postgres_server.template(lambda url: stored.fill(url, TASKS, events=1), name="million")
    return postgres_server.of(name)


@pytest.fixture
def harness(url: str) -> Iterator[MetadataHarness]:
    with explaining(url) as harness:
        yield harness


@contextmanager
def explaining(url: str) -> Iterator[MetadataHarness]:
    clock = SystemClock()
    database = Database(url, clock=clock)

    def explain(driver: Any, _record: Any) -> None:
        driver.cursor_factory = _Explaining

    sa.event.listen(database.engine, "connect", explain)
    tokens = iter(lambda: secrets.randbits(62), None)
    yield MetadataHarness(
        database, FakeClock(), UUID7(lambda: clock.now_us() // 1_000), _tokens=tokens
    )
    database.close()


def explained(ask: Callable[[], Any]) -> list[Explained]:
    _Explaining.found = found = []
    try:
        ask()
    finally:
        _Explaining.found = None
    assert found
    return found


def is_found(ask: Callable[[], Any], *, pages: int = MOST_PAGES) -> set[str]:
    """No large table is read as a whole, and few pages are read at all. Returns the indexes that were used."""
    found = explained(ask)
    wrong = [(e.statement[:300], e.pages) for e in found if e.scanned or e.pages > pages]
    assert wrong == []
    return {index for e in found for index in e.indexes}


def some(harness: MetadataHarness, where: str, limit: int = 20) -> list[TaskKey]:
    with closing(harness.database.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"SELECT tenant_id, id FROM tasks WHERE {where} LIMIT {limit}")
        return [TaskKey(*row) for row in cursor.fetchall()]


WAITING = "finished_at IS NULL AND status = 'pending' AND expires_at IS NULL"
MIDDLE = "status = 'completed' AND finished_at IS NOT NULL AND duration_ms > 0 OFFSET 500000"
DAY_US = 86_400 * 1_000_000

NOW_US = time.time_ns() // 1_000

LISTS: list[tuple[TaskFilter, str]] = [
    (TaskFilter(), "tasks_pkey"),
    (TaskFilter(statuses=frozenset({S.COMPLETED})), "tasks_pkey"),
    (TaskFilter(statuses=frozenset({S.RUNNING})), "ix_tasks_active"),
    (TaskFilter(statuses=frozenset({S.FAILED, S.CANCELLED})), "ix_tasks_unsuccessful"),
    (TaskFilter(statuses=frozenset({S.EXPIRED})), "ix_tasks_unsuccessful"),
    (TaskFilter(dead_letters=True), "ix_tasks_unsuccessful"),
    (TaskFilter(dead_letters=True, fingerprint="f1"), "ix_tasks_dead_letters"),
    (TaskFilter(dead_letters=True, fingerprint="none"), "ix_tasks_dead_letters"),
    (TaskFilter(task="task_7"), "ix_tasks_task"),
    (TaskFilter(task="unknown"), "ix_tasks_task"),
    (TaskFilter(priority=2), "tasks_pkey"),
    (TaskFilter(created_before=NOW_US - 5 * DAY_US), "tasks_pkey"),
    (TaskFilter(created_after=NOW_US + DAY_US), "tasks_pkey"),
    (TaskFilter(tag="tag-40"), "task_tags_pkey"),
    (TaskFilter(tag="unknown"), "task_tags_pkey"),
    (TaskFilter(q="none", created_after=NOW_US + DAY_US), "tasks_pkey"),
    (TaskFilter(q="task_7", statuses=frozenset({S.COMPLETED})), "tasks_pkey"),
    (TaskFilter(priority=9, statuses=frozenset({S.PENDING})), "ix_tasks_active"),
    (TaskFilter(priority=3, task="task_7"), "ix_tasks_task"),
    (TaskFilter(q="none", task="unknown"), "ix_tasks_task"),
]

NOTHING = "no task has this"
# What no index knows, and nothing has, with how many tasks are looked at and how many pages they may be on. All that
# failed, and all with a tag, are so few here beside the bound that the planner may rather sort or hash them.
LOOKED_THROUGH: list[tuple[TaskFilter, int, int]] = [
    (TaskFilter(q=NOTHING), 100_000, 6_000),
    (TaskFilter(priority=9), 100_000, 6_000),
    (TaskFilter(priority=9, statuses=frozenset({S.COMPLETED})), 100_000, 6_000),
    (TaskFilter(q=NOTHING, created_before=NOW_US - 5 * DAY_US), 100_000, 6_000),
    (TaskFilter(q=NOTHING, task="task_7"), 2_000, 3_000),
    (TaskFilter(priority=9, task="task_7"), 2_000, 3_000),
    (TaskFilter(q=NOTHING, tag="tag-40"), 1_000, 12_000),
    (TaskFilter(q=NOTHING, statuses=frozenset({S.FAILED, S.EXPIRED})), 100_000, 40_000),
]


@pytest.mark.parametrize(("where", "index"), LISTS)
def test_lists(harness: MetadataHarness, where: TaskFilter, index: str) -> None:
    [before] = some(harness, MIDDLE, 1)
    for cursor in (None, before.task_id):
        used = is_found(
            lambda cursor=cursor: harness.tasks.list("default", where, limit=51, before=cursor)  # type: ignore[misc]
        )
        assert index in used


@pytest.mark.parametrize(("where", "most", "pages"), LOOKED_THROUGH)
def test_what_no_index_knows_is_looked_for_so_far_and_no_further(
    harness: MetadataHarness, where: TaskFilter, most: int, pages: int
) -> None:
    tasks = replace(harness, most_looked_at=most).tasks
    is_found(lambda: tasks.list("default", where, limit=51, before=None), pages=pages)
    is_found(lambda: tasks.looked_until("default", where, before=None), pages=pages)


def test_submission(harness: MetadataHarness) -> None:
    [parent] = some(harness, MIDDLE, 1)
    tasks = [
        harness.new(
            tags=("a", "b"), idempotency_key=f"{secrets.token_hex(4)}-{n}", request_hash="h",
            depends_on=(parent.task_id,),
        )
        for n in range(100)
    ]  # fmt: skip
    is_found(lambda: harness.insert(*tasks, max_waiting=100_000, outbox=True), pages=6_000)


def test_a_replayed_submission(harness: MetadataHarness) -> None:
    is_found(
        lambda: harness.insert(harness.new(idempotency_key="key-500000", request_hash="h")),
        pages=50,
    )


def test_a_submission_that_starts_at_once(harness: MetadataHarness) -> None:
    tasks = [harness.new() for _ in range(20)]
    start = StartNow([TaskKey(task.tenant_id, task.id) for task in tasks], "w1", 30)

    def insert() -> None:
        result = harness.submissions.insert(
            tasks, max_waiting=0, max_queue_delay_seconds=900, outbox=False, start=start
        )
        assert len(result.started) == len(tasks)

    is_found(insert)


@pytest.mark.parametrize("size", [1, 20])
def test_the_life_of_an_attempt(harness: MetadataHarness, size: int) -> None:
    keys = some(harness, WAITING, size)
    is_found(lambda: harness.execution.claim(keys, worker_id="w1", lease_seconds=30))
    again = some(harness, WAITING, size)
    claimed = harness.claim(*again)
    leases = [Lease(task.tenant_id, task.task_id, task.lease_token, 50, "half") for task in claimed]
    is_found(lambda: harness.execution.heartbeat(leases, lease_seconds=30))
    artifacts = SqlArtifacts(harness.database)
    [task] = claimed[:1]
    new = NewArtifact(*again[0], task.lease_token, 1, "a", "key", 1, "text/plain")
    is_found(lambda: artifacts.add([new], most=10))
    is_found(lambda: artifacts.list(again[0]))
    ended = [outcome(task, S.COMPLETED) for task in claimed[:-1]] + [
        outcome(claimed[-1], S.RETRYING, retry_delay_seconds=60.0)
    ]
    is_found(lambda: harness.finish(*ended, outbox=True))


def test_what_cannot_be_claimed_and_what_is_no_longer_held(harness: MetadataHarness) -> None:
    ended = some(harness, MIDDLE)
    is_found(lambda: harness.execution.claim(ended, worker_id="w1", lease_seconds=30))
    claimed = harness.claim(*(harness.accepted() for _ in range(20)))
    lost = [outcome(task, S.COMPLETED, lease_token=-1) for task in claimed]
    is_found(lambda: harness.finish(*lost))


def test_what_became_of_a_commit_that_was_not_answered(url: str) -> None:
    parts = urlsplit(url)
    with cutting_proxy(parts.port or 5432) as proxy:
        cut = parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()
        with explaining(cut) as harness:
            key = harness.accepted()
            proxy.cut_next("answer")
            is_found(lambda: harness.execution.claim([key], worker_id="w1", lease_seconds=30))
            [running] = some(harness, f"id = '{key.task_id}' AND status = 'running'")
            [task] = harness.claim(harness.accepted())
            proxy.cut_next("answer")
            is_found(lambda: harness.finish(outcome(task, S.COMPLETED)))
        assert running == key
        assert proxy.cuts == 2


def test_a_failure_and_those_who_depend_on_it(harness: MetadataHarness) -> None:
    key = harness.accepted()
    for _ in range(3):
        harness.accepted(depends_on=(key.task_id,))
    [task] = harness.claim(key)
    is_found(lambda: harness.finish(outcome(task, S.FAILED)))


def test_dependents_of_what_is_redriven(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    child = harness.accepted(depends_on=(parent.task_id,))
    harness.accepted(depends_on=(child.task_id,))
    harness.run(parent, S.FAILED)

    def redrive(*keys: TaskKey) -> None:
        harness.tasks.redrive(
            keys, delay_seconds=[0.0] * len(keys), max_queue_delay_seconds=900, outbox=True
        )

    is_found(lambda: redrive(parent, child))
    assert harness.status(child) == S.BLOCKED
    harness.run(parent, S.FAILED)
    is_found(lambda: redrive(parent))
    assert harness.status(child) == S.BLOCKED
    [task] = harness.claim(parent)
    is_found(lambda: harness.finish(outcome(task, S.COMPLETED)))
    assert harness.status(child) == S.PENDING


def test_what_is_redriven_with_what_it_depends_on(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    child = harness.accepted(depends_on=(parent.task_id,))
    harness.run(parent, S.COMPLETED)
    harness.run(child, S.FAILED)
    is_found(
        lambda: harness.tasks.redrive(
            [parent, child], delay_seconds=[0.0] * 2, max_queue_delay_seconds=900, outbox=True
        )
    )
    assert harness.status(child) == S.BLOCKED


def test_what_has_waited_too_long(harness: MetadataHarness) -> None:
    late = [harness.accepted(expires_at=1) for _ in range(20)]
    harness.accepted(depends_on=(late[0].task_id,))
    assert "ix_tasks_expiring" in is_found(lambda: harness.execution.expire(limit=500))
    assert {harness.status(key) for key in late} == {S.EXPIRED}


def test_what_runs_all_the_time(harness: MetadataHarness) -> None:
    assert "ix_tasks_expiring" in is_found(lambda: harness.execution.expire(limit=500))
    lost = is_found(lambda: harness.execution.lost(dead_workers=["w1", "w2"], limit=500))
    assert "ix_tasks_active" in lost

    def lease() -> list[OutboxEntry]:
        return harness.outbox.lease(lookahead_seconds=900, lease_seconds=3_600, limit=500)

    while left := lease():  # by the tests before
        harness.outbox.delete([entry.entry_id for entry in left if entry.entry_id is not None])
    is_found(lease, pages=200)
    is_found(harness.outbox.next_due_seconds, pages=20)
    is_found(lambda: harness.outbox.due(limit=500))
    is_found(lambda: list(harness.outbox.waiting(within_seconds=900, batch=500)))
    resending = SqlResending(harness.database, Journal(harness.database, harness.new_id))
    resent = is_found(lambda: resending.resend(silent_seconds=3 * DAY_US / 1e6, limit=500))
    assert "ix_tasks_active" in resent
    is_found(lambda: harness.retention.purge(finished_before=1, limit=500), pages=200)
    is_found(lambda: harness.insights.fold(ended_before=DAY_US))
    assert "ix_tasks_active" in is_found(lambda: harness.insights.backlog(most=1_000), pages=200)
    record = WorkerRecord("w", "host", 1, 0, 0, "running", {})
    is_found(lambda: harness.workers.report(record), pages=20)
    is_found(harness.workers.list, pages=20)
    is_found(lambda: harness.workers.forget(["w"]), pages=20)


def test_a_full_outbox(harness: MetadataHarness) -> None:
    keys = some(harness, WAITING, 20)
    messages = [Message(key.task_id, key.tenant_id, "task_1", 2, 0.0) for key in keys]
    is_found(lambda: harness.outbox.add(messages))
    leased: list[Any] = []

    def lease() -> None:
        leased.extend(harness.outbox.lease(lookahead_seconds=0, lease_seconds=30, limit=500))

    is_found(lease)
    assert len(leased) >= 20
    is_found(lambda: harness.outbox.delete([entry.entry_id for entry in leased]))


def test_what_is_sent_again(harness: MetadataHarness) -> None:
    resending = SqlResending(harness.database, Journal(harness.database, harness.new_id))
    resent: list[int] = []
    is_found(
        lambda: resent.append(resending.resend(silent_seconds=0, limit=20)),
        pages=10 * stored.WAITING,  # each that waits is looked at, with its last event
    )
    assert resent == [20]


def test_what_is_cancelled_before_it_is_due(harness: MetadataHarness) -> None:
    later = [harness.new(delay_seconds=3_600.0) for _ in range(20)]
    harness.insert(*later, outbox=True)
    is_found(lambda: harness.tasks.cancel([TaskKey(task.tenant_id, task.id) for task in later]))


def test_retention_deletes_a_batch_by_key(harness: MetadataHarness) -> None:
    nine_days_ago = harness.database.now() - 9 * DAY_US
    # Seven tables and their indexes, for each of a hundred tasks.
    is_found(lambda: harness.retention.purge(finished_before=nine_days_ago, limit=100), pages=4_000)


def test_counting(harness: MetadataHarness) -> None:
    for tenant in (None, "default"):
        is_found(lambda tenant=tenant: harness.insights.counts(tenant))  # type: ignore[misc]


def test_what_people_ask_about_one_task(harness: MetadataHarness) -> None:
    keys = some(harness, MIDDLE)
    [key] = keys[:1]
    is_found(lambda: harness.tasks.get("default", [key.task_id]), pages=40)
    is_found(lambda: harness.tasks.get("default", [k.task_id for k in keys]))
    is_found(lambda: harness.tasks.final(keys))
    is_found(lambda: harness.tasks.events(*key, after=0, limit=100), pages=40)


def test_what_people_do_to_tasks(harness: MetadataHarness) -> None:
    waiting = some(harness, WAITING)
    harness.claim(*waiting[10:])
    is_found(lambda: harness.tasks.cancel(waiting))
    failed = some(harness, "status = 'failed' AND finished_at IS NOT NULL")
    is_found(
        lambda: harness.tasks.redrive(
            failed[:10], delay_seconds=[0.0] * 10, max_queue_delay_seconds=900, outbox=True
        )
    )
    is_found(lambda: harness.tasks.discard(failed[10:]))
    is_found(
        lambda: harness.tasks.dead_letter_keys("default", TaskFilter(), task_ids=None, limit=100)
    )
    chosen = [key.task_id for key in failed]
    is_found(
        lambda: harness.tasks.dead_letter_keys("default", TaskFilter(), task_ids=chosen, limit=100)
    )


def test_counts_of_old_hours_are_added_up(harness: MetadataHarness) -> None:
    with harness.database.engine.begin() as connection:
        connection.execute(
            schema.tallies.insert(),
            [
                {"tenant_id": f"t{n}", "hour": 1, "task": "noop", "status": "completed", "shard": 0, "count": 1,
                 "duration_ms": 1.0}
                for n in range(100)
            ],
        )  # fmt: skip
    is_found(lambda: harness.insights.fold(ended_before=DAY_US))


def test_groups_of_failures_look_at_failures_only(harness: MetadataHarness) -> None:
    assert "ix_tasks_dead_letters" in is_found(
        lambda: harness.tasks.failure_groups("default", limit=100)
    )


def test_the_doctor(harness: MetadataHarness) -> None:
    journal = Journal(harness.database, harness.new_id)
    inspection = SqlInspection(harness.database, journal, Dependents(harness.database, journal))
    is_found(lambda: inspection.unannounced(seconds=60, limit=100))
    is_found(lambda: inspection.wrongly_blocked(limit=100))
    wrong = [harness.accepted(depends_on=(harness.accepted().task_id,)) for _ in range(20)]
    with harness.database.engine.begin() as connection:
        wait = sa.text("UPDATE tasks SET waits_for = 2 WHERE id = CAST(:id AS uuid)")
        connection.execute(wait, [{"id": key.task_id} for key in wrong])
    is_found(lambda: inspection.unblock(wrong))
    is_found(inspection.newest_event_at)
    assert "ix_tasks_active" in is_found(inspection.unfinished_by_task)
    is_found(harness.maintenance.ping, pages=20)
    keys = some(harness, MIDDLE)
    is_found(lambda: inspection.payload_uses(keys))


def test_no_prepared_statement_has_been_left_out(url: str) -> None:
    """By the tests above: this one is for the whole file."""
    with closing(_Remembering(url, clock=SystemClock())) as database:
        build_stores(database, new_id=str)
        texts = {statement.text for statement in database.prepared}
    left_out = texts - _Explaining.texts
    assert not left_out, "\n\n".join(sorted(left_out))
