"""TaskStore, reading: single tasks, lists, history, and the groups of dead letters."""

from __future__ import annotations

import builtins
from collections import namedtuple
from collections.abc import Sequence

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_parameters, batch_table, batch_text
from taskflow.adapters.metadata.control import SqlControl
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.stored_tasks import json_or, moment, stored_task
from taskflow.adapters.metadata.task_pages import (
    by_index,
    conditions_of,
    last_looked_at,
    needs_looking,
    page_of,
)
from taskflow.core.events import Event, EventType
from taskflow.ports.metadata import FailureGroup, StoredTask, TaskFilter, TaskKey

_MOST_LOOKED_AT = 100_000  # by one request for what no index has; some tenths of a second


class SqlTasks(SqlControl):
    """Reads here, changes by hand in `SqlControl`."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        dependents: Dependents,
        *,
        most_looked_at: int = _MOST_LOOKED_AT,
    ) -> None:
        super().__init__(database, journal, dependents)
        self._most_looked_at = most_looked_at
        t, i, r = schema.tasks, schema.task_inputs, schema.task_results
        self._view = (
            sa.select(
                t,
                i.c.arguments,
                i.c.input_key,
                i.c.metadata,
                i.c.tags,
                i.c.depends_on,
                i.c.idempotency_key,
                i.c.request_id,
                i.c.traceparent,
                r.c.result,
                r.c.result_key,
                r.c.error,
            )
            .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
            .join(r, sa.and_(r.c.tenant_id == t.c.tenant_id, r.c.task_id == t.c.id), isouter=True)
        )
        keys = batch_table(database, {"tenant_id": TEXT, "id": ID})
        self._endings = database.prepare_rows(
            sa.select(t.c.tenant_id, t.c.id, t.c.finished_at)
            .select_from(keys)
            .join(t, sa.and_(t.c.tenant_id == keys.c.tenant_id, t.c.id == keys.c.id))
        )
        self._row = namedtuple("_row", [column.name for column in self._view.selected_columns])  # type: ignore[misc]
        wanted = batch_table(database, {"id": ID})
        self._by_id = database.prepare_rows(
            self._view.where(
                t.c.tenant_id == sa.bindparam("tenant", type_=TEXT),
                t.c.id.in_(sa.select(wanted.c.id)),
            )
        )

    def get(self, tenant_id: str, task_ids: Sequence[str]) -> builtins.list[StoredTask]:
        batch = batch_text([[task_id] for task_id in task_ids])
        rows = self._database.read_rows(self._by_id, tenant=tenant_id, batch=batch)
        return [stored_task(self._row(*row)) for row in rows]

    def final(self, keys: Sequence[TaskKey]) -> dict[TaskKey, bool]:
        rows = self._database.read_rows(self._endings, batch=batch_text(keys))
        return {
            TaskKey(tenant_id, task_id): finished_at is not None
            for tenant_id, task_id, finished_at in rows
        }

    def list(
        self, tenant_id: str, where: TaskFilter, *, limit: int, before: str | None
    ) -> builtins.list[StoredTask]:
        t = schema.tasks
        # First the ids alone, which may have to be sorted, then the whole of a few tasks.
        each = by_index(where)
        pages = [page_of(tenant_id, one, limit, before, self._most_looked_at) for one in each]
        if len(pages) > 1:
            either = sa.union_all(*(sa.select(page.c.id) for page in pages)).subquery("either")
            page = sa.select(either).order_by(either.c.id.desc()).limit(limit).subquery("page")
        else:
            [page] = pages
        statement = (
            self._view.where(t.c.tenant_id == tenant_id)
            .join(page, page.c.id == t.c.id)
            .order_by(t.c.id.desc())
        )
        rows = self._database.ask(lambda connection: connection.execute(statement).all())
        # Where one status was looked through less far than another, what is beyond belongs to the next page.
        until = self.looked_until(tenant_id, where, before=before) if len(pages) > 1 else None
        return [stored_task(row) for row in rows if until is None or row.id >= until]

    def looked_until(self, tenant_id: str, where: TaskFilter, *, before: str | None) -> str | None:
        if not needs_looking(where):
            return None
        ends = [
            last_looked_at(tenant_id, one, before, self._most_looked_at) for one in by_index(where)
        ]
        last = self._database.ask(lambda connection: [connection.scalar(end) for end in ends])
        return max((str(task_id) for task_id in last if task_id is not None), default=None)

    def dead_letter_keys(
        self, tenant_id: str, where: TaskFilter, *, task_ids: Sequence[str] | None, limit: int
    ) -> builtins.list[TaskKey]:
        t = schema.tasks
        statement = sa.select(t.c.tenant_id, t.c.id).where(
            t.c.tenant_id == tenant_id, *conditions_of(where._replace(dead_letters=True))
        )
        parameters = {}
        if task_ids is not None:
            wanted = batch_table(self._database, {"id": ID})
            statement = statement.where(t.c.id.in_(sa.select(wanted.c.id)))
            parameters = batch_parameters([[task_id] for task_id in task_ids])
        with self._database.read() as connection:
            return [
                TaskKey(*row)
                for row in connection.execute(statement.order_by(t.c.id).limit(limit), parameters)
            ]

    def events(
        self, tenant_id: str, task_id: str, *, after: int, limit: int
    ) -> builtins.list[Event]:
        e = schema.events
        statement = (
            sa.select(e)
            .where(e.c.tenant_id == tenant_id, e.c.task_id == task_id, e.c.id > after)
            .order_by(e.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            Event(
                event_id=row.id,
                tenant_id=row.tenant_id,
                task_id=row.task_id,
                type=EventType(row.type),
                at=moment(row.at),
                data={
                    **({"attempt": row.attempt} if row.attempt is not None else {}),
                    **json_or(row.data, {}),
                },
            )
            for row in rows
        ]

    def failure_groups(self, tenant_id: str, *, limit: int) -> builtins.list[FailureGroup]:
        t, r = schema.tasks, schema.task_results
        groups = (
            sa.select(
                t.c.fingerprint,
                t.c.task,
                sa.func.count().label("number"),
                sa.func.min(t.c.finished_at).label("first_at"),
                sa.func.max(t.c.finished_at).label("last_at"),
                sa.func.max(sa.cast(t.c.id, sa.Text)).label("sample"),
            )
            .where(t.c.tenant_id == tenant_id, schema.dead_letters)
            .group_by(t.c.fingerprint, t.c.task)
            .order_by(sa.desc("number"))
            .limit(limit)
            .subquery()
        )
        statement = sa.select(groups, r.c.error).join(
            r,
            sa.and_(r.c.tenant_id == tenant_id, r.c.task_id == sa.cast(groups.c.sample, schema.Id)),
            isouter=True,
        )
        ordered = statement.order_by(groups.c.number.desc(), groups.c.sample)
        rows = self._database.ask(lambda connection: connection.execute(ordered).all())
        return [
            FailureGroup(
                row.fingerprint or "",
                row.task,
                json_or(row.error, {}).get("type", ""),
                json_or(row.error, {}).get("message", ""),
                row.number,
                row.first_at,
                row.last_at,
                row.sample,
            )
            for row in rows
        ]
