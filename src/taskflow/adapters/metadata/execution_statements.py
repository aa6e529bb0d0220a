"""The statements of the ExecutionStore. Each serves a whole batch (`batch.py`)."""

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


def claim(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        t.update()
        .values(
            status=sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
            attempt=t.c.attempt + sa.literal_column("1"),
            lease_token=sa.bindparam("token", type_=INTEGER),
            lease_until=sa.bindparam("until", type_=INTEGER),
            worker_id=sa.bindparam("worker_id", type_=TEXT),
            started_at=sa.bindparam("now", type_=INTEGER),
            progress=sa.null(),
            progress_message=sa.null(),
        )
        .where(
            _is(batch),
            one_of(t.c.status, CLAIMABLE),
            # Pending is due, whatever the clock says by now: it may have been set back.
            sa.or_(
                one_of(t.c.status, [TaskStatus.PENDING]),
                t.c.run_at <= sa.bindparam("now", type_=INTEGER),
            ),
            sa.or_(t.c.expires_at.is_(None), t.c.expires_at > sa.bindparam("now", type_=INTEGER)),
        )
    )


def started_events(database: Database) -> sa.sql.dml.Insert:
    t, e = schema.tasks, schema.events
    batch = batch_table(database, _KEY)
    data = (
        sa.literal_column("'{\"worker_id\":'")
        .concat(sa.bindparam("worker", type_=TEXT))
        .concat(sa.literal_column("'}'"))
    )
    rows = (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            sa.literal_column(f"'{EventType.STARTED.value}'"),
            sa.bindparam("now", type_=INTEGER),
            t.c.attempt,
            data,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )
    return e.insert().from_select(["tenant_id", "task_id", "type", "at", "attempt", "data"], rows)


def claimed(database: Database) -> sa.Select[Any]:
    t, i = schema.tasks, schema.task_inputs
    batch = batch_table(database, _KEY)
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.priority,
            t.c.attempt,
            t.c.failure_count,
            t.c.crash_count,
            t.c.max_retries,
            t.c.timeout_seconds,
            t.c.expires_at,
            t.c.created_at,
            t.c.run_at,
            t.c.started_at,
            i.c.arguments,
            i.c.input_key,
            i.c.metadata,
            i.c.request_id,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )


def state(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        sa.select(t.c.tenant_id, t.c.id, t.c.status, t.c.run_at)
        .select_from(batch)
        .join(t, _is(batch))
    )


def leases(database: Database) -> sa.Select[Any]:
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
        if database.is_sqlite
        else statement.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t)
    )


def finish(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(
        database,
        {
            **_KEY, "lease_token": INTEGER, "status": TEXT, "attempt": INTEGER, "duration_ms": NUMBER,
            "fingerprint": TEXT, "run_at": INTEGER, "finished_at": INTEGER, "failures": INTEGER, "crashes": INTEGER,
        },
    )  # fmt: skip
    return (
        t.update()
        .values(
            status=batch.c.status,
            attempt=batch.c.attempt,
            duration_ms=batch.c.duration_ms,
            fingerprint=batch.c.fingerprint,
            run_at=sa.func.coalesce(batch.c.run_at, t.c.run_at),
            finished_at=batch.c.finished_at,
            failure_count=t.c.failure_count + batch.c.failures,
            crash_count=t.c.crash_count + batch.c.crashes,
            lease_token=sa.null(),
            lease_until=sa.null(),
        )
        .where(
            _is(batch),
            t.c.lease_token == batch.c.lease_token,
            t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
        )
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
        sa.select(t.c.tenant_id, t.c.id, t.c.task)
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
