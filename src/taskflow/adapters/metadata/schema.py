"""The tables. Same meaning on SQLite and PostgreSQL; `new_store` and migrations/ make them, tests compare all.

Every key starts with the tenant. Moments (``…_at``, ``lease_until``) are Unix microseconds, UTC, of database time. The
row that changes with every transition (`tasks`) is narrow; what never changes (`task_inputs`) and what is written
once (`task_results`) live beside it. Ids are UUIDv7, so key order is creation order.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()

Id = sa.String(36).with_variant(sa.UUID(as_uuid=False), "postgresql")
BigId = sa.BigInteger().with_variant(
    sa.Integer(), "sqlite"
)  # SQLite: only INTEGER aliases the row id


# In `info`: options of SQLite's, for `new_store`. Given as arguments, they would have SQLAlchemy import its dialect,
# whichever database is used.
def _table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    return sa.Table(name, metadata, *items, info={"sqlite_with_rowid": False})


def _partial_index(name: str, *columns: sa.Column[Any], where: sa.ColumnElement[bool]) -> sa.Index:
    return sa.Index(name, *columns, info={"sqlite_where": where})


tasks = _table(
    "tasks",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("id", Id, primary_key=True),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("failure_count", sa.Integer, nullable=False, server_default="0"),
    sa.Column("crash_count", sa.Integer, nullable=False, server_default="0"),
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
    sa.Column("worker_id", sa.Text),
    sa.Column("cancel_requested", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("waits_for", sa.Integer, nullable=False, server_default="0"),
    sa.Column("progress", sa.Double),
    sa.Column("progress_message", sa.Text),
    sa.Column("fingerprint", sa.Text),
    sa.Column("discarded", sa.SmallInteger, nullable=False, server_default="0"),
)
# What is not final: rebuild, recovery, depths. Final tasks leave it, so it stays as small as the backlog.
_partial_index(
    "ix_tasks_active",
    tasks.c.status,
    tasks.c.priority,
    tasks.c.run_at,
    tasks.c.tenant_id,
    tasks.c.finished_at,  # nothing but NULL: with it, counts need not look into the table
    where=tasks.c.finished_at.is_(None),
)
_expiring = sa.and_(tasks.c.expires_at.is_not(None), tasks.c.finished_at.is_(None))
_partial_index("ix_tasks_expiring", tasks.c.expires_at, where=_expiring)
# Dead letters, and lists of what was cancelled or expired: rare among what is final.
unsuccessful = sa.and_(
    tasks.c.finished_at.is_not(None), tasks.c.status != sa.literal_column("'completed'")
)
_partial_index(
    "ix_tasks_unsuccessful",
    tasks.c.tenant_id,
    tasks.c.status,
    tasks.c.id,
    where=unsuccessful,
)
# Dead letters by what went wrong: a page of one group, and the groups themselves by this index alone.
dead_letters = sa.and_(
    tasks.c.finished_at.is_not(None),
    tasks.c.status == sa.literal_column("'failed'"),
    tasks.c.discarded == sa.literal_column("0"),
)
_partial_index(
    "ix_tasks_dead_letters",
    tasks.c.tenant_id,
    tasks.c.fingerprint,
    tasks.c.id,
    tasks.c.task,
    tasks.c.finished_at,
    where=dead_letters,
)
sa.Index("ix_tasks_task", tasks.c.tenant_id, tasks.c.task, tasks.c.id)

task_inputs = _table(
    "task_inputs",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("task_id", Id, primary_key=True),
    sa.Column("arguments", sa.Text),
    sa.Column("input_key", sa.Text),
    sa.Column("metadata", sa.Text),
    sa.Column(
        "tags", sa.Text
    ),  # as JSON, to be read; task_tags and task_dependencies are there to be searched
    sa.Column("depends_on", sa.Text),
    sa.Column("idempotency_key", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("traceparent", sa.Text),
)

task_results = _table(
    "task_results",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("task_id", Id, primary_key=True),
    sa.Column("result", sa.Text),
    sa.Column("result_key", sa.Text),
    sa.Column("error", sa.Text),
)

task_artifacts = _table(
    "task_artifacts",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("task_id", Id, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("artifact_key", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

task_dependencies = _table(
    "task_dependencies",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("depends_on", Id, primary_key=True),
    sa.Column("task_id", Id, primary_key=True),
)
sa.Index("ix_task_dependencies_task", task_dependencies.c.tenant_id, task_dependencies.c.task_id)

task_tags = _table(
    "task_tags",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("task_id", Id, primary_key=True),
)
sa.Index("ix_task_tags_task", task_tags.c.tenant_id, task_tags.c.task_id)

idempotency_keys = _table(
    "idempotency_keys",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("task_id", Id, nullable=False),
    sa.Column("request_hash", sa.Text, nullable=False),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("task_id", Id, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer),
    sa.Column("data", sa.Text),
    # Ids of purged events are never given out again: they are cursors.
    info={"sqlite_autoincrement": True},
)
sa.Index("ix_events_task", events.c.tenant_id, events.c.task_id, events.c.id)

outbox = _table(
    "outbox",
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("task_id", Id, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("leased_until", sa.BigInteger, nullable=False, server_default="0"),
)
sa.Index("ix_outbox_due", outbox.c.due_at)

# How many tasks ended how, by hour: counting millions of final rows for every look at the metrics would not do.
# Sharded so that concurrent finishers do not queue up for one row; purging and redriving subtract.
tallies = _table(
    "tallies",
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True),  # finished_at, in whole hours since 1970
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, primary_key=True),
    sa.Column("shard", sa.SmallInteger, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("duration_ms", sa.Double, nullable=False),
)

workers = _table(
    "workers",
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("hostname", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
)
