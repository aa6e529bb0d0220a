"""InspectionStore: what should not be in the store, and the repairs that are safe while others work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import migrate, schema
from taskflow.adapters.metadata.batch import (
    ID,
    INTEGER,
    TEXT,
    batch_parameters,
    batch_table,
    batch_text,
)
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.journal import Journal, NewEvent, Send
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.errors import StoreCorruptError, StoreVersionError
from taskflow.core.events import EventType
from taskflow.core.task import CLAIMABLE, TaskStatus
from taskflow.ports.inspection import PayloadUse
from taskflow.ports.metadata import TaskKey
from taskflow.ports.queue import Message

_MICROSECONDS = 1_000_000
_MAX_DAMAGE_LINES = 20
_NEWEST_EVENTS = 1_000  # ids are given out in the order of transactions, moments nearly so


class SqlInspection:
    def __init__(self, database: Database, journal: Journal, dependents: Dependents) -> None:
        self._database = database
        self._journal = journal
        self._dependents = dependents
        t = schema.tasks
        batch = batch_table(database, {"tenant_id": TEXT, "task_id": ID})
        is_batch = sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.task_id)
        again = _wrongly_blocked().join(batch, is_batch)
        self._wrong_among = database.prepare_rows(
            again if database.is_sqlite else again.with_for_update(of=t)
        )
        right = batch_table(
            database, {"tenant_id": TEXT, "task_id": ID, "status": TEXT, "waits_for": INTEGER}
        )
        self._set_right = database.prepare(
            t.update()
            .values(status=right.c.status, waits_for=right.c.waits_for)
            .where(t.c.tenant_id == right.c.tenant_id, t.c.id == right.c.task_id)
        )

    def schema_revision(self) -> str:
        revision = migrate.current(self._database)
        if revision != migrate.HEAD:
            raise StoreVersionError(
                f"the store has schema {revision or 'none'}, this program needs {migrate.HEAD}: run `taskflow migrate`"
            )
        return revision

    def damage(self) -> list[str]:
        if not self._database.is_sqlite:
            return []  # PostgreSQL checks its pages itself (data_checksums)
        try:
            with self._database.read() as connection:
                lines = connection.exec_driver_sql(f"PRAGMA integrity_check({_MAX_DAMAGE_LINES})")
                return [str(line) for (line,) in lines if line != "ok"]
        except StoreCorruptError as exc:
            return [exc.detail]

    def task_count(self) -> int:
        return int(self._scalar(sa.select(sa.func.count()).select_from(schema.tasks)) or 0)

    def unfinished_by_task(self) -> dict[str, int]:
        t = schema.tasks
        counts = (
            sa.select(t.c.task, sa.func.count()).where(t.c.finished_at.is_(None)).group_by(t.c.task)
        )
        with self._database.read() as connection:
            return {str(task): int(count) for task, count in connection.execute(counts)}

    def newest_event_at(self) -> int | None:
        e = schema.events
        newest = sa.select(e.c.at).order_by(e.c.id.desc()).limit(_NEWEST_EVENTS).subquery()
        moment: int | None = self._scalar(sa.select(sa.func.max(newest.c.at)))
        return moment

    def unannounced(self, *, seconds: float, limit: int) -> list[Message]:
        t, o = schema.tasks, schema.outbox
        before = self._database.now() - int(seconds * _MICROSECONDS)
        statement = (
            sa.select(
                t.c.id, t.c.tenant_id, t.c.task, t.c.priority, sa.literal(0.0), t.c.timeout_seconds
            )
            .where(
                t.c.finished_at.is_(None),
                one_of(t.c.status, CLAIMABLE),
                t.c.run_at < before,
                t.c.id.not_in(sa.select(o.c.task_id)),
            )
            .order_by(t.c.priority, t.c.run_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [Message(*row) for row in connection.execute(statement)]

    def wrongly_blocked(self, *, limit: int) -> list[TaskKey]:
        with self._database.read() as connection:
            rows = connection.execute(_wrongly_blocked().limit(limit)).all()
        return [TaskKey(row.tenant_id, row.id) for row in rows]

    def unblock(self, keys: Sequence[TaskKey]) -> int:
        if not keys:
            return 0
        with self._database.write() as tx:
            wrong = tx.rows(self._wrong_among, batch=batch_text(keys))
            failed = [TaskKey(row[0], row[6]) for row in wrong if row[6] is not None]
            self._dependents.after(tx, completed=[], unsuccessful=failed)
            changes, sends = [], []
            for tenant_id, task_id, task, priority, run_at, waits_for, failed_parent in wrong:
                if failed_parent is not None:
                    continue
                due = TaskStatus.SCHEDULED if run_at > tx.now else TaskStatus.PENDING
                changes.append(
                    (tenant_id, task_id, TaskStatus.BLOCKED if waits_for else due, waits_for)
                )
                if not waits_for:
                    sends.append(Send(tenant_id, task_id, task, priority, max(run_at, tx.now)))
            if changes:
                tx.run(self._set_right, batch=batch_text(changes))
            self._journal.events(
                tx,
                [NewEvent(s.tenant_id, s.task_id, EventType.RELEASED, None, None) for s in sends],
            )
            # Outbox rows for all: the queue that would have to know may be in another process.
            self._journal.send(tx, sends, max_queue_delay_seconds=0.0, outbox=True)
        return len(wrong)

    def payload_keys(self, *, batch: int) -> Iterator[list[str]]:
        # A transaction a page: whoever reads the payloads in between takes their time.
        for column in (
            schema.task_inputs.c.input_key,
            schema.task_results.c.result_key,
            schema.task_artifacts.c.artifact_key,
        ):
            place = column.table.primary_key.columns
            page = (
                sa.select(column, *place).where(column.is_not(None)).order_by(*place).limit(batch)
            )
            rows = self._rows(page)
            while rows:
                yield [row[0] for row in rows]
                last = map(sa.literal, rows[-1][1:], [part.type for part in place])
                rows = self._rows(page.where(sa.tuple_(*place) > sa.tuple_(*last)))

    def payload_uses(self, keys: Sequence[TaskKey]) -> dict[TaskKey, PayloadUse]:
        t, i, r = schema.tasks, schema.task_inputs, schema.task_results
        batch = batch_table(self._database, {"tenant_id": TEXT, "task_id": ID})
        statement = (
            sa.select(t.c.tenant_id, t.c.id, t.c.finished_at, i.c.input_key, r.c.result_key)
            .join(batch, sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.task_id))
            .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id), isouter=True)
            .join(r, sa.and_(r.c.tenant_id == t.c.tenant_id, r.c.task_id == t.c.id), isouter=True)
        )
        a = schema.task_artifacts
        artifacts = sa.select(a.c.tenant_id, a.c.task_id, a.c.artifact_key).join(
            batch, sa.and_(a.c.tenant_id == batch.c.tenant_id, a.c.task_id == batch.c.task_id)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement, batch_parameters(keys)).all()
            # In this order: a task that was final then got no artifact since, unless an attempt began anew.
            more: dict[TaskKey, set[str]] = {}
            for row in connection.execute(artifacts, batch_parameters(keys)):
                more.setdefault(TaskKey(row.tenant_id, row.task_id), set()).add(row.artifact_key)
        return {
            TaskKey(row.tenant_id, row.id): PayloadUse(
                final=row.finished_at is not None,
                keys=frozenset(key for key in (row.input_key, row.result_key) if key is not None)
                | more.get(TaskKey(row.tenant_id, row.id), frozenset()),
            )
            for row in rows
        }

    def _rows(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        with self._database.read(unlimited=True) as connection:
            return connection.execute(statement).all()

    def _scalar(self, statement: sa.Select[Any]) -> Any:
        with self._database.read() as connection:
            return connection.scalar(statement)


def _wrongly_blocked() -> sa.Select[Any]:
    """Blocked tasks with what they should wait for, where that differs from what they do wait for.

    Columns: tenant_id, id, task, priority, run_at, right waits_for, a parent that ended badly.
    """
    t, d, p = schema.tasks, schema.task_dependencies, schema.tasks.alias("parent")
    parents = (
        sa.select(sa.func.count())
        .select_from(d.join(p, sa.and_(p.c.tenant_id == d.c.tenant_id, p.c.id == d.c.depends_on)))
        .where(
            d.c.tenant_id == t.c.tenant_id,
            d.c.task_id == t.c.id,
            p.c.status != sa.literal_column(f"'{TaskStatus.COMPLETED.value}'"),
        )
    )
    waits_for = parents.correlate(t).scalar_subquery()
    failed = (
        parents.with_only_columns(sa.func.min(sa.cast(p.c.id, sa.Text)))
        .where(p.c.finished_at.is_not(None))
        .correlate(t)
        .scalar_subquery()
    )
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.priority,
            t.c.run_at,
            waits_for.label("right_waits_for"),
            failed.label("failed_parent"),
        )
        .where(t.c.finished_at.is_(None), one_of(t.c.status, [TaskStatus.BLOCKED]))
        .where(sa.or_(waits_for != t.c.waits_for, waits_for == 0, failed.is_not(None)))
    )
