"""The same store on SQLite and on PostgreSQL; the harness hides how time passes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.execution import SqlExecution
from taskflow.adapters.metadata.insights import SqlInsights
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.maintenance import SqlMaintenance
from taskflow.adapters.metadata.migrate import migrate
from taskflow.adapters.metadata.new_tasks import NewTasks
from taskflow.adapters.metadata.outbox import SqlOutbox
from taskflow.adapters.metadata.retention import SqlRetention
from taskflow.adapters.metadata.submissions import SqlSubmissions
from taskflow.adapters.metadata.tasks import SqlTasks
from taskflow.adapters.metadata.workers import SqlWorkers
from taskflow.core.errors import StoreLockedError
from taskflow.core.ids import UUID7
from taskflow.core.submission import Accepted, NewTask
from taskflow.core.task import Task, TaskStatus
from taskflow.ports.metadata import (
    CancelResult,
    ClaimedTask,
    FinishResult,
    InsertResult,
    Outcome,
    TaskKey,
)
from taskflow.testing.clock import FakeClock
from tests.support.backends import migrated
from tests.support.postgres import Postgres

MAX_DELAY = 900.0
_R = TypeVar("_R")
_LOCKED_SECONDS = 30.0  # others hold a task for a moment; for longer, by mistake of the test


@dataclass
class MetadataHarness:
    database: Database
    clock: FakeClock
    new_id: Callable[[], str]
    most_looked_at: int = 100_000
    _tokens: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _offset_us: int = 0

    def __post_init__(self) -> None:
        journal = Journal(self.database, self.new_id)
        dependents = Dependents(self.database, journal)
        self.execution = SqlExecution(self.database, journal, dependents, self._new_token)
        self.submissions = SqlSubmissions(
            self.database, NewTasks(self.database, journal, self._new_token)
        )
        self.outbox = SqlOutbox(self.database, journal)
        self.retention = SqlRetention(self.database, journal)
        self.tasks = SqlTasks(
            self.database, journal, dependents, most_looked_at=self.most_looked_at
        )
        self.workers = SqlWorkers(self.database)
        self.insights = SqlInsights(self.database)
        self.maintenance = SqlMaintenance(self.database)

    def _new_token(self) -> int:
        return next(self._tokens)

    def advance(self, seconds: float) -> None:
        """Move database time."""
        self.clock.advance(seconds)
        if not self.database.is_sqlite:
            self._offset_us += int(seconds * 1_000_000)
            with self.database.engine.begin() as connection:
                connection.exec_driver_sql(
                    "CREATE OR REPLACE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT "
                    f"(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {self._offset_us} $$"
                )

    def new(self, **changes: Any) -> NewTask:
        task = NewTask(
            id=self.new_id(), tenant_id="default", task="noop", name=None, priority=2, max_retries=3,
            timeout_seconds=300.0, run_at=None, delay_seconds=0.0, expires_at=None, expires_in_seconds=None,
            arguments='[[],{"x":1}]', input_key=None, metadata=None, tags=(), depends_on=(), idempotency_key=None,
            request_hash=None, request_id=None,
        )  # fmt: skip
        return task._replace(**changes)

    def insert(self, *tasks: NewTask, max_waiting: int = 0, outbox: bool = False) -> InsertResult:
        return unlocked(
            lambda: self.submissions.insert(
                tasks, max_waiting=max_waiting, max_queue_delay_seconds=MAX_DELAY, outbox=outbox
            )
        )

    def accepted(self, **changes: Any) -> TaskKey:
        """Insert one task; its key."""
        [answer] = self.insert(self.new(**changes)).answers
        assert isinstance(answer, Accepted)
        return TaskKey(changes.get("tenant_id", "default"), answer.task_id)

    def claim(self, *keys: TaskKey, worker_id: str = "w1") -> list[ClaimedTask]:
        return self.execution.claim(keys, worker_id=worker_id, lease_seconds=30).tasks

    def finish_once(self, *outcomes: Outcome, outbox: bool = False) -> FinishResult:
        return self.execution.finish(outcomes, max_queue_delay_seconds=MAX_DELAY, outbox=outbox)

    def finish(self, *outcomes: Outcome, outbox: bool = False) -> FinishResult:
        """Those whose tasks somebody else holds at that moment are given again, as workers do."""
        result = self.finish_once(*outcomes, outbox=outbox)
        deadline = time.monotonic() + _LOCKED_SECONDS
        while left := result.locked:
            assert time.monotonic() < deadline, f"{left} stay locked"
            more = self.finish_once(*left, outbox=outbox)
            result = FinishResult(
                [*result.fenced, *more.fenced],
                [*result.to_send, *more.to_send],
                [*result.ended, *more.ended],
                more.locked,
            )
        return result

    def cancel(self, *keys: TaskKey) -> CancelResult:
        return unlocked(lambda: self.tasks.cancel(keys))

    def run(self, key: TaskKey, status: TaskStatus, **changes: Any) -> FinishResult:
        """Claim one task and end its attempt."""
        [task] = self.claim(key)
        return self.finish(outcome(task, status, **changes))

    def task(self, key: TaskKey) -> Task:
        [stored] = self.tasks.get(key.tenant_id, [key.task_id])
        return stored.task

    def status(self, key: TaskKey) -> str:
        return self.task(key).status.value

    def history(self, key: TaskKey) -> list[str]:
        events = self.tasks.events(key.tenant_id, key.task_id, after=0, limit=100)
        return [event.type.removeprefix("task.") for event in events]

    def count(self, table: str) -> int:
        with self.database.read() as connection:
            return connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0


def unlocked(change: Callable[[], _R]) -> _R:
    """Asked for again while somebody holds what it changes, as callers are told to."""
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            return change()
        except StoreLockedError:
            assert time.monotonic() < deadline, "it stays locked"


def outcome(task: ClaimedTask, status: TaskStatus, **changes: Any) -> Outcome:
    base = Outcome(task.tenant_id, task.task_id, task.lease_token, status, task.attempt, 1.5)
    if status is TaskStatus.COMPLETED:
        base = base._replace(result='{"ok":true}')
    elif status in (TaskStatus.FAILED, TaskStatus.RETRYING):
        base = base._replace(
            error='{"type":"ValueError","message":"no","classification":"permanent"}',
            fingerprint="f1",
            counts_failure=True,
        )
    return base._replace(**changes)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database; PostgreSQL behind PgBouncer, where nothing outlives a transaction but what it committed."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'taskflow.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.through_pgbouncer(request.getfixturevalue("postgres_database"))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same with the tables in it, if it is PostgreSQL: these take longest."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'taskflow.db'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    make = request.getfixturevalue("postgres_url_factory")
    return server.through_pgbouncer(make(template=migrated(server)))


@pytest.fixture
def harness(store_url: str) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(store_url, clock=clock)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()
