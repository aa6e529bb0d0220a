"""ResendStore: waiting tasks whose message the queue is about to forget."""

from __future__ import annotations

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import Journal, NewEvent, Send
from taskflow.adapters.metadata.statuses import of_any_priority, one_of
from taskflow.core.events import EventType
from taskflow.core.task import CLAIMABLE

_MICROSECONDS = 1_000_000


class SqlResending:
    def __init__(self, database: Database, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        t, o, e = schema.tasks, schema.outbox, schema.events
        cutoff = sa.bindparam("cutoff", type_=sa.BigInteger)
        is_silent = sa.and_(
            ~sa.exists().where(o.c.task_id == t.c.id, o.c.tenant_id == t.c.tenant_id),
            # Whatever happened to it was followed by a message.
            ~sa.exists().where(
                e.c.tenant_id == t.c.tenant_id, e.c.task_id == t.c.id, e.c.at > cutoff
            ),
        )
        columns = sa.select(t.c.tenant_id, t.c.id, t.c.task, t.c.priority)
        forgotten = (
            columns.where(
                t.c.finished_at.is_(None),
                one_of(t.c.status, sorted(CLAIMABLE)),
                of_any_priority(t.c.priority),
                t.c.run_at <= cutoff,
                is_silent,
            )
            .order_by(t.c.priority, t.c.run_at)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
        self._any = database.prepare_rows(forgotten)
        self._forgotten = database.prepare_rows(
            forgotten
            if database.is_sqlite
            else forgotten.with_for_update(skip_locked=True, of=schema.tasks)
        )
        keys = batch_table(database, {"tenant_id": TEXT, "task_id": ID})
        same = sa.and_(t.c.tenant_id == keys.c.tenant_id, t.c.id == keys.c.task_id)
        self._still = database.prepare_rows(
            columns.select_from(keys).join(t, same).where(is_silent)
        )

    def resend(self, *, silent_seconds: float, limit: int) -> int:
        def cutoff(now: int) -> int:
            return now - int(silent_seconds * _MICROSECONDS)

        # Empty nearly always: that must not cost a write lock.
        if not self._database.read_rows(self._any, limit=1, cutoff=cutoff(self._database.now())):
            return 0
        with self._database.write() as tx:
            found = tx.rows(self._forgotten, limit=limit, cutoff=cutoff(tx.now))
            # Another process may have resent them, and unlocked them, after that statement had begun to look.
            batch = batch_text([row[:2] for row in found])
            rows = tx.rows(self._still, batch=batch, cutoff=cutoff(tx.now))
            self._journal.events(
                tx,
                [
                    NewEvent(tenant, task_id, EventType.RESENT, None, None)
                    for tenant, task_id, *_ in rows
                ],
            )
            sends = [Send(row[0], row[1], row[2], row[3], tx.now) for row in rows]
            self._journal.send(tx, sends, max_queue_delay_seconds=0.0, outbox=True)
        return len(rows)
