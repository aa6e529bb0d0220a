"""SQLite finds what is asked for by the right index, also among a million tasks: the planner works from the statistics
of a large store that the migration has written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskFilter
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness

S = TaskStatus


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(f"sqlite:///{tmp_path / 'taskflow.db'}", clock=clock)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


def plans(harness: MetadataHarness, ask: Callable[[], Any]) -> str:
    """How SQLite answers every SELECT that ``ask`` makes."""
    steps: list[str] = []
    traced: list[str] = []
    with harness.database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        # The pool hands the connection out that was returned last: the one that is traced.
        driver.set_trace_callback(traced.append)
    ask()
    driver.set_trace_callback(None)
    for statement in traced:
        if statement.startswith("SELECT"):
            steps += [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert steps
    return "\n".join(steps)


LISTS = [
    (TaskFilter(), "PRIMARY KEY (tenant_id=?)"),
    (TaskFilter(statuses=frozenset({S.RUNNING})), "COVERING INDEX ix_tasks_active (status=?)"),
    (
        TaskFilter(statuses=frozenset({S.FAILED, S.CANCELLED})),
        "INDEX ix_tasks_unsuccessful (tenant_id=? AND status=?)",
    ),
    (TaskFilter(dead_letters=True), "INDEX ix_tasks_unsuccessful (tenant_id=? AND status=?)"),
    (TaskFilter(task="a"), "COVERING INDEX ix_tasks_task (tenant_id=? AND task=?)"),
    (TaskFilter(tag="a"), "SEARCH task_tags USING PRIMARY KEY (tenant_id=? AND tag=?)"),
    (TaskFilter(q="a"), "PRIMARY KEY (tenant_id=?)"),
    (TaskFilter(q="a", created_after=1), "PRIMARY KEY (tenant_id=? AND id>?)"),
    (TaskFilter(priority=0), "PRIMARY KEY (tenant_id=?)"),
    (TaskFilter(priority=0, statuses=frozenset({S.COMPLETED})), "PRIMARY KEY (tenant_id=?)"),
    (
        TaskFilter(priority=0, statuses=frozenset({S.PENDING})),
        "INDEX ix_tasks_active (status=? AND priority=?)",
    ),
    (
        TaskFilter(q="a", statuses=frozenset({S.FAILED, S.EXPIRED})),
        "INDEX ix_tasks_unsuccessful (tenant_id=? AND status=?)",
    ),
    (TaskFilter(q="a", task="a"), "INDEX ix_tasks_task (tenant_id=? AND task=?)"),
    (TaskFilter(q="a", tag="a"), "SEARCH task_tags USING PRIMARY KEY (tenant_id=? AND tag=?)"),
]


@pytest.mark.parametrize(("where", "step"), LISTS)
def test_lists(harness: MetadataHarness, where: TaskFilter, step: str) -> None:
    found = plans(harness, lambda: harness.tasks.list("default", where, limit=50, before=None))
    assert step in found
    assert "SCAN tasks" not in found


def test_how_far_was_looked_is_read_from_the_same_indexes(harness: MetadataHarness) -> None:
    for where, step in ((where, step) for where, step in LISTS if where.q):
        found = plans(
            harness,
            lambda where=where: harness.tasks.looked_until("default", where, before=None),  # type: ignore[misc]
        )
        assert step.removeprefix("INDEX ") in found
        assert "SCAN tasks" not in found


def test_the_backlog_is_read_from_the_ends_of_indexes(harness: MetadataHarness) -> None:
    found = plans(harness, lambda: harness.insights.backlog(most=1_000))
    assert "INDEX ix_tasks_active (status=? AND priority=? AND run_at<?)" in found
    assert "INDEX ix_outbox_due (due_at<?)" in found
    assert "SCAN tasks" not in found


def test_counting_reads_nothing_but_an_index(harness: MetadataHarness) -> None:
    for tenant in (None, "default"):
        found = plans(harness, lambda tenant=tenant: harness.insights.counts(tenant))  # type: ignore[misc]
        assert "SCAN tasks USING COVERING INDEX ix_tasks_active" in found


def test_what_runs_all_the_time_looks_only_at_what_it_wants(harness: MetadataHarness) -> None:
    expire = plans(harness, lambda: harness.execution.expire(limit=500))
    assert "USING INDEX ix_tasks_expiring (expires_at" in expire
    lost = plans(harness, lambda: harness.execution.lost(dead_workers=[], limit=500))
    assert "USING INDEX ix_tasks_active (status=?)" in lost
    lease = plans(
        harness, lambda: harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=500)
    )
    assert "USING INDEX ix_outbox_due (due_at<?)" in lease


def test_retention_does_not_walk_what_is_too_young(harness: MetadataHarness) -> None:
    harness.run(harness.accepted(), S.COMPLETED)
    found = plans(harness, lambda: harness.retention.purge(finished_before=1, limit=500))
    assert "SEARCH tasks USING PRIMARY KEY (tenant_id=? AND id<?)" in found


def test_every_statement_of_the_hot_path_searches_by_key(harness: MetadataHarness) -> None:
    database = harness.database
    submissions = harness.submissions
    execution = harness.execution
    parts = (execution, execution._outcomes, submissions, submissions._new_tasks)
    prepared = {name: value for part in parts for name, value in vars(part).items()}
    hot = ("_claim", "_started_events", "_claimed", "_state", "_leases", "_finish", "_extend")
    with database.write():
        for name in (*hot, "_insert_tasks", "_insert_started", "_parents"):
            statement = getattr(prepared[name], "many", prepared[name])
            rows = database.connections.writer().execute(
                f"EXPLAIN QUERY PLAN {statement.text}", statement.parameters({})
            )
            steps = [row[3] for row in rows]
            assert not [step for step in steps if step.startswith("SCAN tasks")], (name, steps)


def test_the_statistics_are_those_of_every_index(harness: MetadataHarness) -> None:
    with harness.database.read() as connection:
        known = set(connection.scalars(sa.text("SELECT idx FROM sqlite_stat1")))
        indexes = set(
            connection.scalars(
                sa.text("SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'ix%'")
            )
        )
    assert indexes <= known
