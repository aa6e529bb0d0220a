"""On PostgreSQL nothing is left behind on a connection: behind a proxy the next transaction has another one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.adapters.metadata.postgresql import PostgresqlOptions
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskFilter
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness

_STATE = """
SELECT (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_')
     + (SELECT count(*) FROM pg_prepared_statements)
     + (SELECT count(*) FROM pg_cursors WHERE name <> '')
     + (SELECT count(*) FROM pg_listening_channels())
     + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
     + (SELECT count(*) FROM pg_class WHERE relpersistence = 't')
"""


@pytest.fixture
def harness(postgres_store: str) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(
        postgres_store, clock=clock, postgresql=PostgresqlOptions(pool_size=1, max_overflow=0)
    )
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


def left_behind(harness: MetadataHarness) -> int:
    with harness.database.engine.connect() as connection:
        count: int = connection.exec_driver_sql(_STATE).scalar_one()
        return count


def test_a_session_setting_would_be_seen(harness: MetadataHarness) -> None:
    before = left_behind(harness)
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql("SET statement_timeout = '7s'")
    assert left_behind(harness) == before + 1


def test_no_operation_leaves_anything_on_its_connection(harness: MetadataHarness) -> None:
    before = left_behind(harness)
    key = harness.accepted(tags=("a",), idempotency_key="k", request_hash="h")
    harness.insert(harness.new(depends_on=(key.task_id,)), outbox=True)
    harness.run(key, TaskStatus.RETRYING)
    harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10)
    list(harness.outbox.waiting(within_seconds=900, batch=10))
    harness.execution.expire(limit=10)
    harness.tasks.list("default", TaskFilter(tag="a"), limit=10, before=None)
    harness.retention.purge(finished_before=1, limit=10)
    harness.insights.counts(None)
    list(harness.maintenance.export())
    harness.maintenance.ping()
    migrate(harness.database)
    assert left_behind(harness) == before


def test_the_statement_timeout_is_the_transactions(harness: MetadataHarness) -> None:
    shown = harness.database.prepare(sa.select(sa.func.current_setting("statement_timeout")))
    with harness.database.write() as tx:
        assert tx.rows(shown) == [("30s",)]
    assert harness.database.read_rows(shown) == [("30s",)]
    with harness.database.read() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
    with harness.database.read(unlimited=True) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"
