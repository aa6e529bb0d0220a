"""The statements that write down how the attempts of a batch ended (`batch.py`)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, NUMBER, TEXT, batch_table
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.execution_statements import EVENT_COLUMNS
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.events import EventType
from taskflow.core.task import FINAL, TaskStatus


def finish(database: Database) -> sa.Update:
    """On SQLite, of outcomes whose leases have been looked at: whoever writes there is alone."""
    t = schema.tasks
    batch = batch_table(
        database,
        {
            "tenant_id": TEXT, "id": ID, "lease_token": INTEGER, "status": TEXT, "attempt": INTEGER,
            "duration_ms": NUMBER, "fingerprint": TEXT, "run_at": INTEGER, "finished_at": INTEGER,
            "failures": INTEGER, "crashes": INTEGER,
        },
    )  # fmt: skip
    return (
        t.update()
        .values(
            status=batch.c.status,
            run_at=sa.func.coalesce(batch.c.run_at, t.c.run_at),
            finished_at=batch.c.finished_at,
            **_attempt_of(batch),
        )
        .where(
            t.c.tenant_id == batch.c.tenant_id,
            t.c.id == batch.c.id,
            t.c.lease_token == batch.c.lease_token,
            _running(),
        )
    )


def finish_at_once(database: Database) -> sa.Select[Any]:
    """On PostgreSQL: whose lease still holds, their rows, results and events, in one statement. Returns
    ``tenant_id, id, lease_token, status, task, priority`` of what was written. Rows that others have locked are left
    out: one of them may be a caller's transaction that stays open for long (`submissions.py` locks parents), and all
    other outcomes would wait with it.

    An outcome that is not final is a cancellation where one has been asked for. What depends on the tasks is for a
    statement of its own: only one that begins when their rows are locked sees what others have just submitted.
    """
    t, now = schema.tasks, sa.bindparam("now", type_=INTEGER)
    given = sa.select(
        batch_table(
            database,
            {
                "tenant_id": TEXT, "id": ID, "lease_token": INTEGER, "status": TEXT, "attempt": INTEGER,
                "duration_ms": NUMBER, "fingerprint": TEXT, "retry_delay_us": INTEGER, "failures": INTEGER,
                "crashes": INTEGER, "result": TEXT, "result_key": TEXT, "error": TEXT, "event": TEXT, "data": TEXT,
                "cancelled_data": TEXT,
            },
        )
    ).cte("given")  # fmt: skip
    stops = sa.and_(t.c.cancel_requested != sa.literal_column("0"), ~one_of(given.c.status, FINAL))
    held = (
        sa.select(
            *(given.c[name] for name in ("tenant_id", "id", "lease_token", "attempt", "duration_ms", "fingerprint",
                                         "retry_delay_us", "failures", "crashes", "result", "result_key", "error")),
            sa.case((stops, _quoted(TaskStatus.CANCELLED)), else_=given.c.status).label("status"),
            sa.case((stops, _quoted(EventType.CANCELLED)), else_=given.c.event).label("event"),
            sa.case((stops, given.c.cancelled_data), else_=given.c.data).label("data"),
        )
        .select_from(given)
        .join(t, sa.and_(t.c.tenant_id == given.c.tenant_id, t.c.id == given.c.id))
        .where(t.c.lease_token == given.c.lease_token, _running())
        .with_for_update(of=t, skip_locked=True)
        .cte("held")
    )  # fmt: skip
    is_final = one_of(held.c.status, FINAL)
    written = (
        t.update()
        .values(
            status=held.c.status,
            run_at=sa.case((is_final, t.c.run_at), else_=now + held.c.retry_delay_us),
            finished_at=sa.case((is_final, now), else_=sa.null()),
            **_attempt_of(held),
        )
        .where(t.c.tenant_id == held.c.tenant_id, t.c.id == held.c.id)
        .returning(
            t.c.tenant_id, t.c.id, t.c.status, t.c.task, t.c.priority, t.c.attempt, held.c.lease_token,
            held.c.result, held.c.result_key, held.c.error, held.c.event, held.c.data,
        )
        .cte("written")
    )  # fmt: skip
    w = written.c
    return sa.select(w.tenant_id, w.id, w.lease_token, w.status, w.task, w.priority).add_cte(
        _results(database, written).cte("results"),
        _events(written, now).cte("events_of_them"),
    )


def _results(database: Database, written: sa.CTE) -> Any:
    w, names = written.c, ["tenant_id", "task_id", "result", "result_key", "error"]
    rows = sa.select(w.tenant_id, w.id, w.result, w.result_key, w.error).where(
        w.status != _quoted(TaskStatus.PENDING)
    )
    statement = database.insert(schema.task_results).from_select(names, rows)
    return statement.on_conflict_do_update(
        index_elements=names[:2], set_={name: statement.excluded[name] for name in names[2:]}
    )


def _events(written: sa.CTE, now: sa.ColumnElement[int]) -> sa.sql.dml.Insert:
    w = written.c
    return schema.events.insert().from_select(
        EVENT_COLUMNS,
        sa.select(w.tenant_id, w.id, w.event, now, w.attempt, w.data),
    )


def _attempt_of(outcome: sa.Subquery | sa.CTE) -> dict[str, Any]:
    """The columns of a task that say how its last attempt went, and that nobody holds it any more."""
    t, o = schema.tasks, outcome.c
    return {
        "attempt": o.attempt,
        "duration_ms": o.duration_ms,
        "fingerprint": o.fingerprint,
        "failure_count": t.c.failure_count + o.failures,
        "crash_count": t.c.crash_count + o.crashes,
        "lease_token": sa.null(),
        "lease_until": sa.null(),
    }


def _running() -> sa.ColumnElement[bool]:
    return schema.tasks.c.status == _quoted(TaskStatus.RUNNING)


def _quoted(word: TaskStatus | EventType) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{word.value}'")
