"""Tasks, their inputs, results, dependencies, tags and events; outbox, idempotency keys, tallies, workers."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")
_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(name: str, *, key: bool = False, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=null)


def _id(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, _ID, primary_key=key, nullable=False)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger, nullable=False, server_default="0")


def upgrade() -> None:
    op.create_table(
        "tasks",
        _text("tenant_id", key=True),
        _id("id", key=True),
        _text("task"),
        _text("name", null=True),
        _text("status"),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        _count("attempt"),
        _count("failure_count"),
        _count("crash_count"),
        sa.Column("max_retries", sa.Integer, nullable=False),
        sa.Column("timeout_seconds", sa.Double, nullable=False),
        sa.Column("run_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("duration_ms", sa.Double),
        sa.Column("lease_token", sa.BigInteger),
        sa.Column("lease_until", sa.BigInteger),
        _text("worker_id", null=True),
        _flag("cancel_requested"),
        _count("waits_for"),
        sa.Column("progress", sa.Double),
        _text("progress_message", null=True),
        _text("fingerprint", null=True),
        _flag("discarded"),
        sqlite_with_rowid=False,
    )
    _partial_index(
        "ix_tasks_active",
        "tasks",
        ["status", "priority", "run_at", "tenant_id", "finished_at"],
        "finished_at IS NULL",
    )
    _partial_index(
        "ix_tasks_expiring",
        "tasks",
        ["expires_at"],
        "expires_at IS NOT NULL AND finished_at IS NULL",
    )
    _partial_index(
        "ix_tasks_unsuccessful",
        "tasks",
        ["tenant_id", "status", "id"],
        "finished_at IS NOT NULL AND status != 'completed'",
    )
    op.create_index("ix_tasks_task", "tasks", ["tenant_id", "task", "id"])
    op.create_table(
        "task_inputs",
        _text("tenant_id", key=True),
        _id("task_id", key=True),
        _text("arguments", null=True),
        _text("input_key", null=True),
        _text("metadata", null=True),
        _text("tags", null=True),
        _text("depends_on", null=True),
        _text("idempotency_key", null=True),
        _text("request_id", null=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_results",
        _text("tenant_id", key=True),
        _id("task_id", key=True),
        _text("result", null=True),
        _text("result_key", null=True),
        _text("error", null=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_dependencies",
        _text("tenant_id", key=True),
        _id("depends_on", key=True),
        _id("task_id", key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_task_dependencies_task", "task_dependencies", ["tenant_id", "task_id"])
    op.create_table(
        "task_tags",
        _text("tenant_id", key=True),
        _text("tag", key=True),
        _id("task_id", key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_task_tags_task", "task_tags", ["tenant_id", "task_id"])
    op.create_table(
        "idempotency_keys",
        _text("tenant_id", key=True),
        _text("key", key=True),
        _id("task_id"),
        _text("request_hash"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "events",
        sa.Column("id", _BIG_ID, primary_key=True, autoincrement=True),
        _text("tenant_id"),
        _id("task_id"),
        _text("type"),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer),
        _text("data", null=True),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_task", "events", ["tenant_id", "task_id", "id"])
    op.create_table(
        "outbox",
        _id("id", key=True),
        _text("tenant_id"),
        _id("task_id"),
        _text("task"),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("leased_until", sa.BigInteger, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_outbox_due", "outbox", ["due_at"])
    op.create_table(
        "tallies",
        _text("tenant_id", key=True),
        sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("task", key=True),
        _text("status", key=True),
        sa.Column("shard", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workers",
        _text("id", key=True),
        _text("hostname"),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        _text("status"),
        _text("details"),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "postgresql":
        # The one clock of all leases. A function, so that a test can move it.
        op.execute(
            "CREATE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE "
            "AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$"
        )
        # Room on the page for the new version of a row, and vacuum before bloat: these rows change three times each.
        op.execute(
            "ALTER TABLE tasks SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, "
            "autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0.02)"
        )
        op.execute(
            "ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)"
        )
    else:
        # What ANALYZE finds in a large store, from the start: without, SQLite's planner walks all tasks of a tenant
        # (a million) where an index has the twenty that are wanted. Rows, then rows for each value of the first
        # column, of the first two, …
        op.execute("ANALYZE")
        op.execute("DELETE FROM sqlite_stat1")
        op.bulk_insert(
            sa.table("sqlite_stat1", *(sa.column(name) for name in ("tbl", "idx", "stat"))),
            [{"tbl": table, "idx": index, "stat": rows} for table, index, rows in _STATISTICS],
        )
        op.execute("ANALYZE sqlite_schema")  # reads them


_STATISTICS = (
    ("tasks", "tasks", "1000000 1000000 1"),
    ("tasks", "ix_tasks_task", "1000000 1000000 50000 1"),
    ("tasks", "ix_tasks_active", "50000 15000 4000 2 1 1"),
    ("tasks", "ix_tasks_expiring", "10000 2"),
    ("tasks", "ix_tasks_unsuccessful", "50000 50000 20000 1"),
    ("task_inputs", "task_inputs", "1000000 1000000 1"),
    ("task_results", "task_results", "1000000 1000000 1"),
    ("task_dependencies", "task_dependencies", "50000 50000 2 1"),
    ("task_dependencies", "ix_task_dependencies_task", "50000 50000 2"),
    ("task_tags", "task_tags", "50000 50000 500 1"),
    ("task_tags", "ix_task_tags_task", "50000 50000 2"),
    ("idempotency_keys", "idempotency_keys", "100000 100000 1"),
    ("events", "ix_events_task", "3000000 3000000 3 1"),
    ("outbox", "outbox", "10000 1"),
    ("outbox", "ix_outbox_due", "10000 2"),
)


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(
        name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
