"""InsightStore: counts without counting. What waits is in a small index, what ended is in the tallies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import INTEGER, TEXT, batch_table, batch_text, insert
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import add_tallies
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.task import CLAIMABLE, TaskPriority, TaskStatus
from taskflow.ports.metadata import Backlog, TaskCounts

_MICROSECONDS = 1_000_000
_HOUR_US = 3_600 * _MICROSECONDS
_DAY_HOURS = 24


class SqlInsights:
    def __init__(self, database: Database) -> None:
        self._database = database
        n = schema.tallies
        by_hour = n.c.hour > sa.literal_column("0")  # else the totals of all that is older
        old = sa.select(n).where(n.c.hour < sa.bindparam("hour", type_=INTEGER))
        self._any_old = database.prepare_rows(old.where(by_hour).limit(1))
        old = old.order_by(*n.primary_key)
        self._old = database.prepare_rows(old if database.is_sqlite else old.with_for_update())
        columns = {
            "tenant_id": TEXT, "hour": INTEGER, "task": TEXT, "status": TEXT, "shard": INTEGER,
        }  # fmt: skip
        batch = batch_table(database, columns)
        self._forget = database.prepare(
            n.delete().where(
                sa.tuple_(*n.primary_key.columns).in_(sa.select(*(batch.c[c] for c in columns)))
            )
        )
        self._add = add_tallies(database)

    def counts(self, tenant_id: str | None) -> TaskCounts:
        t, n = schema.tasks, schema.tallies
        active = sa.select(
            t.c.status, t.c.priority, sa.func.count(), sa.func.min(t.c.run_at)
        ).where(t.c.finished_at.is_(None))
        ended = sa.select(
            n.c.status,
            sa.func.sum(n.c.count),
            sa.func.sum(sa.case((n.c.hour > sa.bindparam("since"), n.c.count), else_=0)),
            sa.func.sum(sa.case((n.c.hour > sa.bindparam("since"), n.c.duration_ms), else_=0.0)),
        )
        if tenant_id is not None:
            active = active.where(t.c.tenant_id == tenant_id)
            ended = ended.where(n.c.tenant_id == tenant_id)
        now = self._database.now()

        def read(connection: sa.Connection) -> tuple[Sequence[Any], Sequence[Any]]:
            since = {"since": now // _HOUR_US - _DAY_HOURS}
            return (
                connection.execute(active.group_by(t.c.status, t.c.priority)).all(),
                connection.execute(ended.group_by(n.c.status), since).all(),
            )

        waiting_rows, ended_rows = self._database.ask(read)
        by_status = {status.value: 0 for status in TaskStatus}
        by_priority = {int(priority): 0 for priority in TaskPriority}
        oldest: int | None = None
        for status, priority, count, run_at in waiting_rows:
            by_status[status] += count
            by_priority[priority] += count
            if status in CLAIMABLE and run_at <= now:
                oldest = run_at if oldest is None else min(oldest, run_at)
        recent, recent_ms = 0, 0.0
        for status, count, count_day, ms_day in ended_rows:
            by_status[status] += int(count)
            if status == TaskStatus.COMPLETED:
                recent += int(count_day)
                recent_ms += float(ms_day)
        return TaskCounts(
            by_status,
            by_priority,
            None if oldest is None else (now - oldest) / _MICROSECONDS,
            recent_ms / recent if recent else None,
        )

    def backlog(self, *, most: int) -> Backlog:
        t, o = schema.tasks, schema.outbox
        now = self._database.now()
        overdue = sa.select(o.c.due_at).where(o.c.due_at <= now).order_by(o.c.due_at).limit(most)
        late = overdue.subquery()
        # One look at the end of the index for each pair, not at all that waits.
        oldest = [
            sa.select(
                sa.literal_column(str(int(priority))),
                sa.select(sa.func.min(t.c.run_at))
                .where(
                    t.c.finished_at.is_(None),
                    one_of(t.c.status, [status]),
                    t.c.priority == sa.literal_column(str(int(priority))),
                    t.c.run_at <= now,
                )
                .scalar_subquery(),
            )
            for status in sorted(CLAIMABLE)
            for priority in TaskPriority
        ]

        def read(connection: sa.Connection) -> tuple[Any, Sequence[Any]]:
            return (
                connection.execute(sa.select(sa.func.count(), sa.func.min(late.c.due_at))).one(),
                connection.execute(sa.union_all(*oldest)).all(),
            )

        (messages, due_at), waiting = self._database.ask(read)
        seconds = {int(priority): 0.0 for priority in TaskPriority}
        for priority, run_at in waiting:
            if run_at is not None:
                seconds[priority] = max(seconds[priority], (now - run_at) / _MICROSECONDS)
        return Backlog(messages, 0.0 if due_at is None else (now - due_at) / _MICROSECONDS, seconds)

    def fold(self, *, ended_before: int) -> int:
        hour = ended_before // _HOUR_US
        if not self._database.read_rows(self._any_old, hour=hour):
            return 0
        counts: Counter[tuple[str, str, str]] = Counter()
        durations: Counter[tuple[str, str, str]] = Counter()
        with self._database.write() as tx:
            rows = tx.rows(self._old, hour=hour)
            for tenant_id, _, task, status, _, count, duration_ms in rows:
                counts[tenant_id, task, status] += count
                durations[tenant_id, task, status] += duration_ms
            tx.run(self._forget, batch=batch_text([row[:5] for row in rows]))
            totals = [
                (tenant_id, 0, task, status, 0, count, durations[tenant_id, task, status])
                for (tenant_id, task, status), count in sorted(counts.items())
                if count
            ]
            if totals:
                insert(tx, self._add, totals)
        return len(rows)
