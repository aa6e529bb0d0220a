"""The statements of the ExecutionStore. Each serves a whole batch (`batch.py`).

On PostgreSQL those after which a task is as unfinished as before lock it FOR NO KEY UPDATE. Who submits a task that
depends on it holds it FOR KEY SHARE, maybe for long (a caller's transaction), and only its end has to wait for that.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, NUMBER, TEXT, batch_table
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.events import EventType
from taskflow.core.task import CLAIMABLE, WAITING, TaskStatus

_KEY = {"tenant_id": TEXT, "id": ID}


def _is(batch: sa.Subquery) -> sa.ColumnElement[bool]:
    t = schema.tasks
    return sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id)


def _claimable() -> list[sa.ColumnElement[bool]]:
    t = schema.tasks
    now = sa.bindparam("now", type_=INTEGER)
    return [
        one_of(t.c.status, CLAIMABLE),
        # Pending is due, whatever the clock says by now: it may have been set back.
        sa.or_(one_of(t.c.status, [TaskStatus.PENDING]), t.c.run_at <= now),
        sa.or_(t.c.expires_at.is_(None), t.c.expires_at > now),
    ]


def _start() -> sa.Update:
    t = schema.tasks
    return t.update().values(
        status=sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
        attempt=t.c.attempt + sa.literal_column("1"),
        lease_token=sa.bindparam("token", type_=INTEGER),
        lease_until=sa.bindparam("until", type_=INTEGER),
        worker_id=sa.bindparam("worker_id", type_=TEXT),
        started_at=sa.bindparam("now", type_=INTEGER),
        progress=sa.null(),
        progress_message=sa.null(),
    )


def claim(database: Database) -> sa.Update:
    """On SQLite; then `started_events` and `claimed`. Whoever claims there is alone."""
    batch = batch_table(database, _KEY)
    return _start().where(_is(batch), *_claimable())


def claim_at_once(database: Database) -> sa.Select[Any]:
    """On PostgreSQL: `claim`, `started_events` and `claimed` in one statement. Rows that others have locked are left
    out: nobody waits for anybody."""
    t, e, i = schema.tasks, schema.events, schema.task_inputs
    batch = batch_table(database, _KEY)
    chosen = (
        sa.select(t.c.tenant_id, t.c.id)
        .select_from(batch)
        .join(t, _is(batch))
        .where(*_claimable())
        .with_for_update(of=t, skip_locked=True, key_share=True)
        .cte("chosen")
    )
    claimed = (
        _start()
        .where(t.c.tenant_id == chosen.c.tenant_id, t.c.id == chosen.c.id)
        .returning(*_started_columns())
        .cte("claimed")
    )
    events = e.insert().from_select(
        EVENT_COLUMNS, sa.select(*_started_event(claimed.c)).select_from(claimed)
    )
    return (
        sa.select(*claimed.c, *_input_columns())
        .join(i, sa.and_(i.c.tenant_id == claimed.c.tenant_id, i.c.task_id == claimed.c.id))
        .add_cte(events.cte("started"))
    )


EVENT_COLUMNS = ["tenant_id", "task_id", "type", "at", "attempt", "data"]


def _started_event(task: Any) -> list[sa.ColumnElement[Any]]:
    """The columns of the event that ``task``, by its columns, was started."""
    data = (
        sa.literal_column("'{\"worker_id\":'")
        .concat(sa.bindparam("worker", type_=TEXT))
        .concat(sa.literal_column("'}'"))
    )
    kind: sa.ColumnElement[Any] = sa.literal_column(f"'{EventType.STARTED.value}'")
    return [task.tenant_id, task.id, kind, sa.bindparam("now", type_=INTEGER), task.attempt, data]


def started_events(database: Database) -> sa.sql.dml.Insert:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    rows = (
        sa.select(*_started_event(t.c))
        .select_from(batch)
        .join(t, _is(batch))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )
    return schema.events.insert().from_select(EVENT_COLUMNS, rows)


def _started_columns() -> list[sa.Column[Any]]:
    """Those of `ClaimedTask`, with `_input_columns` after them."""
    t = schema.tasks
    return [
        t.c.tenant_id, t.c.id, t.c.task, t.c.priority, t.c.attempt, t.c.failure_count, t.c.crash_count,
        t.c.max_retries, t.c.timeout_seconds, t.c.expires_at, t.c.created_at, t.c.run_at, t.c.started_at,
    ]  # fmt: skip


def _input_columns() -> list[sa.Column[Any]]:
    i = schema.task_inputs
    return [i.c.arguments, i.c.input_key, i.c.metadata, i.c.request_id, i.c.traceparent]


def claimed(database: Database) -> sa.Select[Any]:
    t, i = schema.tasks, schema.task_inputs
    batch = batch_table(database, _KEY)
    return (
        sa.select(*_started_columns(), *_input_columns())
        .select_from(batch)
        .join(t, _is(batch))
        .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )


def state(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        sa.select(t.c.tenant_id, t.c.id, t.c.status, t.c.run_at, t.c.expires_at)
        .select_from(batch)
        .join(t, _is(batch))
    )


def leases(database: Database, *, lock: bool = True) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    statement = (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.lease_token,
            t.c.cancel_requested,
            t.c.task,
            t.c.priority,
            t.c.attempt,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .where(t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"))
    )
    return (
        statement
        if database.is_sqlite or not lock
        else statement.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t, key_share=True)
    )


def extend(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(
        database, {**_KEY, "lease_token": INTEGER, "progress": NUMBER, "progress_message": TEXT}
    )
    return (
        t.update()
        .values(
            lease_until=sa.bindparam("until", type_=INTEGER),
            progress=sa.func.coalesce(batch.c.progress, t.c.progress),
            progress_message=sa.case(
                (batch.c.progress.is_(None), t.c.progress_message), else_=batch.c.progress_message
            ),
        )
        .where(_is(batch), t.c.lease_token == batch.c.lease_token)
    )


def expiring() -> sa.Select[Any]:
    t = schema.tasks
    return (
        sa.select(t.c.tenant_id, t.c.id, t.c.task, t.c.run_at)
        .where(
            t.c.expires_at.is_not(None),
            t.c.finished_at.is_(None),
            t.c.expires_at <= sa.bindparam("now", type_=INTEGER),
            one_of(t.c.status, WAITING),
        )
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def expire(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        t.update()
        .values(
            status=sa.literal_column(f"'{TaskStatus.EXPIRED.value}'"),
            finished_at=sa.bindparam("now", type_=INTEGER),
        )
        .where(_is(batch), one_of(t.c.status, WAITING))
    )


def lost(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    dead = batch_table(database, {"id": TEXT}, "workers")
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.worker_id,
            t.c.lease_token,
            t.c.lease_until,
            t.c.attempt,
            t.c.failure_count,
            t.c.crash_count,
            t.c.max_retries,
            t.c.expires_at,
            t.c.cancel_requested,
        )
        .where(
            t.c.finished_at.is_(None),
            t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
            sa.or_(
                t.c.lease_until < sa.bindparam("now", type_=INTEGER),
                t.c.worker_id.in_(sa.select(dead.c.id)),
            ),
        )
        .order_by(t.c.lease_until, t.c.tenant_id, t.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
