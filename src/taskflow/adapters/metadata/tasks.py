"""TaskStore, reading: single tasks, lists, history, and the groups of dead letters."""

from __future__ import annotations

import builtins
from collections import namedtuple
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_parameters, batch_table, batch_text
from taskflow.adapters.metadata.control import SqlControl
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.search import contains
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.events import Event, EventType
from taskflow.core.ids import first_id
from taskflow.core.task import FINAL, Task, TaskError, TaskPriority, TaskStatus
from taskflow.ports.metadata import FailureGroup, StoredTask, TaskFilter, TaskKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCKS_APART_MS = 15 * 60_000  # beyond it AWS refuses what a machine signs, too
_MOST_LOOKED_AT = 100_000  # by one request for what no index has; some tenths of a second
_RARE = FINAL - {TaskStatus.COMPLETED}


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
        each = _by_index(where)
        pages = [_page(tenant_id, one, limit, before, self._most_looked_at) for one in each]
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
        if _split(where)[1] is None:
            return None
        ends = [
            _ids(tenant_id, _split(one)[0], before).offset(self._most_looked_at - 1).limit(1)
            for one in _by_index(where)
        ]
        last = self._database.ask(lambda connection: [connection.scalar(end) for end in ends])
        return max((str(task_id) for task_id in last if task_id is not None), default=None)

    def dead_letter_keys(
        self, tenant_id: str, where: TaskFilter, *, task_ids: Sequence[str] | None, limit: int
    ) -> builtins.list[TaskKey]:
        t = schema.tasks
        statement = sa.select(t.c.tenant_id, t.c.id).where(
            t.c.tenant_id == tenant_id, *_conditions(where._replace(dead_letters=True))
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
                    **_json(row.data, {}),
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
                _json(row.error, {}).get("type", ""),
                _json(row.error, {}).get("message", ""),
                row.number,
                row.first_at,
                row.last_at,
                row.sample,
            )
            for row in rows
        ]


def _by_index(where: TaskFilter) -> list[TaskFilter]:
    """One for each status whose tasks an index has in order, where that of all of them would have to be sorted."""
    statuses = where.statuses or frozenset()
    if len(statuses) < 2 or not statuses <= _RARE:
        return [where]
    return [where._replace(statuses=frozenset({status})) for status in sorted(statuses)]


def _split(where: TaskFilter) -> tuple[TaskFilter, TaskFilter | None]:
    """What indexes find, and what has to be looked for in one task after the other of these. Not among those that are
    not final: their index says how many there are, and has priorities."""
    statuses = where.statuses
    if (where.q is None and where.priority is None) or (statuses and not statuses & FINAL):
        return where, None
    rare = statuses if statuses is None or statuses <= _RARE else None
    looked_for = TaskFilter(q=where.q, priority=where.priority, statuses=None if rare else statuses)
    return where._replace(q=None, priority=None, statuses=rare), looked_for


def _page(
    tenant_id: str, where: TaskFilter, limit: int, before: str | None, most_looked_at: int
) -> sa.Subquery:
    """Ids, newest first."""
    indexed, looked_for = _split(where)
    ids = _ids(tenant_id, indexed, before)
    if looked_for is None:
        return ids.limit(limit).subquery()
    t = schema.tasks
    newest = ids.add_columns(t.c.task, t.c.name, t.c.priority, t.c.status)
    among = newest.limit(most_looked_at).subquery()
    found = sa.select(among.c.id).where(*_conditions(looked_for, among))
    return found.order_by(among.c.id.desc()).limit(limit).subquery()


def _ids(tenant_id: str, where: TaskFilter, before: str | None) -> sa.Select[Any]:
    t, tags = schema.tasks, schema.task_tags
    ids = sa.select(t.c.id).where(t.c.tenant_id == tenant_id, *_conditions(where))
    if before is not None:
        ids = ids.where(t.c.id < before)
    if where.tag is not None:
        tagged = sa.and_(tags.c.tenant_id == t.c.tenant_id, tags.c.task_id == t.c.id)
        ids = ids.join(tags, tagged).where(tags.c.tag == where.tag)
    return ids.order_by(t.c.id.desc())


def _conditions(where: TaskFilter, t: sa.FromClause = schema.tasks) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if where.dead_letters:
        conditions += [schema.unsuccessful, one_of(t.c.status, [TaskStatus.FAILED])]
        # The words of the index that has one group in order, or other words: it has not all of them in order.
        grouped = where.fingerprint is not None
        conditions.append(schema.dead_letters if grouped else t.c.discarded < 1)
    if where.statuses is not None:
        conditions.append(one_of(t.c.status, where.statuses))
        # Said again in the words of the partial indexes, without which a planner may not use them.
        if not where.statuses & FINAL:
            conditions.append(t.c.finished_at.is_(None))
        elif where.statuses <= _RARE and not where.dead_letters:
            conditions.append(schema.unsuccessful)
    for name in ("task", "priority", "fingerprint"):
        value = getattr(where, name)
        if value is not None:
            conditions.append(t.c[name] == value)
    # An id says when it was made, by another clock: what is far outside need not be looked at.
    if where.created_after is not None:
        start = first_id(where.created_after // 1_000 - _CLOCKS_APART_MS)
        conditions += [t.c.created_at >= where.created_after, t.c.id >= start]
    if where.created_before is not None:
        end = first_id(where.created_before // 1_000 + _CLOCKS_APART_MS)
        conditions += [t.c.created_at < where.created_before, t.c.id < end]
    if where.q is not None:
        conditions.append(contains([sa.cast(t.c.id, sa.Text), t.c.task, t.c.name], where.q))
    return conditions


def stored_task(row: Any) -> StoredTask:
    args, kwargs = _json(row.arguments, [[], {}])
    task = Task.model_construct(
        task_id=row.id,
        tenant_id=row.tenant_id,
        task=row.task,
        name=row.name,
        status=TaskStatus(row.status),
        priority=TaskPriority(row.priority),
        args=args,
        kwargs=kwargs,
        attempt=row.attempt,
        failure_count=row.failure_count,
        crash_count=row.crash_count,
        max_retries=row.max_retries,
        timeout=row.timeout_seconds,
        progress=row.progress,
        progress_message=row.progress_message,
        result=_json(row.result, None),
        error=TaskError.model_validate_json(row.error) if row.error is not None else None,
        run_at=moment(row.run_at),
        expires_at=_moment(row.expires_at),
        created_at=moment(row.created_at),
        started_at=_moment(row.started_at),
        finished_at=_moment(row.finished_at),
        duration_ms=row.duration_ms,
        cancel_requested=bool(row.cancel_requested),
        worker_id=row.worker_id,
        depends_on=_json(row.depends_on, []),
        idempotency_key=row.idempotency_key,
        tags=_json(row.tags, []),
        metadata=_json(row.metadata, {}),
        request_id=row.request_id,
        traceparent=row.traceparent,
    )
    return StoredTask(task, row.input_key, row.result_key)


def moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else moment(microseconds)


def _json(text: str | None, default: Any) -> Any:
    return default if text is None else orjson.loads(text)
