"""OutboxStore: messages that must still be sent, and what a queue without memory is rebuilt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import UNKNOWN, Journal, Send
from taskflow.adapters.metadata.statuses import of_any_priority, one_of
from taskflow.core.task import CLAIMABLE, TaskStatus
from taskflow.ports.metadata import OutboxEntry, TaskKey
from taskflow.ports.queue import Message

_MICROSECONDS = 1_000_000
_MAY_BE_EARLY = sorted(CLAIMABLE - {TaskStatus.PENDING})


class SqlOutbox:
    def __init__(self, database: Database, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        o = schema.outbox
        due = (
            sa.select(o.c.id, o.c.tenant_id, o.c.task_id, o.c.task, o.c.priority, o.c.due_at)
            .where(
                o.c.due_at <= sa.bindparam("horizon", type_=sa.BigInteger),
                # A lease that ends later than one taken now would, is from before the clock was set back.
                sa.or_(
                    o.c.leased_until <= sa.bindparam("now", type_=sa.BigInteger),
                    o.c.leased_until > sa.bindparam("until", type_=sa.BigInteger),
                ),
            )
            .order_by(o.c.due_at)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
        self._any_due = database.prepare_rows(due)
        self._due = database.prepare_rows(
            due if database.is_sqlite else due.with_for_update(skip_locked=True)
        )
        batch = batch_table(database, {"id": ID})
        chosen = o.c.id.in_(sa.select(batch.c.id))
        self._lease = database.prepare(
            o.update().values(leased_until=sa.bindparam("until", type_=sa.BigInteger)).where(chosen)
        )
        self._delete = database.prepare(o.delete().where(chosen))
        self._next = sa.select(sa.func.min(o.c.due_at))
        t = schema.tasks
        claimable = (
            sa.select(t.c.tenant_id, t.c.id, t.c.task, t.c.priority)
            .where(t.c.finished_at.is_(None))
            .order_by(t.c.priority, t.c.run_at)
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
        self._pending = database.prepare_rows(
            claimable.where(one_of(t.c.status, [TaskStatus.PENDING]))
        )
        self._overdue = database.prepare_rows(
            claimable.where(
                one_of(t.c.status, _MAY_BE_EARLY),
                of_any_priority(t.c.priority),
                t.c.run_at <= sa.bindparam("now", type_=sa.BigInteger),
            )
        )

    def lease(
        self, *, lookahead_seconds: float, lease_seconds: float, limit: int
    ) -> list[OutboxEntry]:
        def moments(now: int) -> dict[str, int]:
            horizon = now + int(lookahead_seconds * _MICROSECONDS)
            return {
                "horizon": horizon,
                "now": now,
                "until": now + int(lease_seconds * _MICROSECONDS),
            }

        # Asked about once a second by every process, and empty nearly always: that must not cost a write lock.
        if not self._database.read_rows(self._any_due, limit=1, **moments(self._database.now())):
            return []
        with self._database.write(durable=False) as tx:
            now = tx.now
            wanted = moments(now)
            rows = tx.rows(self._due, limit=limit, **wanted)
            if rows:
                batch = batch_text([[row[0]] for row in rows])
                tx.run(self._lease, batch=batch, until=wanted["until"])
            details = self._journal.details(tx, [TaskKey(row[1], row[2]) for row in rows])
        entries = []
        for entry_id, tenant_id, task_id, task, priority, due_at in rows:
            delay = max(0, due_at - now) / _MICROSECONDS
            known = details.get(TaskKey(tenant_id, task_id), UNKNOWN)
            message = Message(task_id, tenant_id, task, priority, delay, *known)
            entries.append(OutboxEntry(message, entry_id))
        return entries

    def release(self, entry_ids: Sequence[str]) -> None:
        if entry_ids:
            with self._database.write(durable=False) as tx:
                batch = batch_text([[entry_id] for entry_id in entry_ids])
                tx.run(self._lease, batch=batch, until=0)

    def delete(self, entry_ids: Sequence[str]) -> None:
        if entry_ids:
            with self._database.write() as tx:
                tx.run(self._delete, batch=batch_text([[entry_id] for entry_id in entry_ids]))

    def add(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        with self._database.write() as tx:
            sends = [
                Send(
                    m.tenant_id,
                    m.task_id,
                    m.task,
                    m.priority,
                    tx.now + int(m.delay_seconds * _MICROSECONDS),
                )
                for m in messages
            ]
            self._journal.send(tx, sends, max_queue_delay_seconds=0.0, outbox=True)

    def next_due_seconds(self) -> float | None:
        with self._database.read() as connection:
            due_at = connection.scalar(self._next)
        return None if due_at is None else (due_at - self._database.now()) / _MICROSECONDS

    def due(self, *, limit: int) -> list[Message]:
        rows = self._database.read_rows(self._pending, limit=limit)
        rows += self._database.read_rows(self._overdue, now=self._database.now(), limit=limit)
        return [Message(row[1], row[0], *row[2:]) for row in rows]

    def waiting(self, *, within_seconds: float, batch: int) -> Iterator[list[Message]]:
        t, o = schema.tasks, schema.outbox
        now = self._database.now()
        horizon = now + int(within_seconds * _MICROSECONDS)
        wanted = {
            TaskStatus.PENDING: sa.true(),  # due, even if the clock has been set back since
            # Later ones are in the outbox, unless they had been sent before the clock was set back.
            **dict.fromkeys(
                _MAY_BE_EARLY,
                sa.or_(t.c.run_at <= horizon, t.c.id.not_in(sa.select(o.c.task_id))),
            ),
        }
        with self._database.read() as connection:
            for status, condition in wanted.items():
                statement: sa.Select[Any] = (
                    sa.select(t.c.tenant_id, t.c.id, t.c.task, t.c.priority, t.c.run_at)
                    .where(t.c.finished_at.is_(None), one_of(t.c.status, [status]), condition)
                    .order_by(t.c.priority, t.c.run_at)
                )
                latest = now if status is TaskStatus.PENDING else horizon
                rows = connection.execution_options(yield_per=batch).execute(statement)
                for partition in rows.partitions():
                    yield [
                        Message(
                            task_id,
                            tenant_id,
                            task,
                            priority,
                            max(0, min(run_at, latest) - now) / _MICROSECONDS,
                        )
                        for tenant_id, task_id, task, priority, run_at in partition
                    ]
