"""Which tasks a list shows, said in the words of the indexes that have them in order."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.search import contains
from taskflow.adapters.metadata.statuses import one_of
from taskflow.core.ids import first_id
from taskflow.core.task import FINAL, TaskStatus
from taskflow.ports.metadata import TaskFilter

_CLOCKS_APART_MS = 15 * 60_000  # beyond it AWS refuses what a machine signs, too
_RARE = FINAL - {TaskStatus.COMPLETED}


def by_index(where: TaskFilter) -> list[TaskFilter]:
    """One for each status whose tasks an index has in order, where that of all of them would have to be sorted."""
    statuses = where.statuses or frozenset()
    if len(statuses) < 2 or not statuses <= _RARE:
        return [where]
    return [where._replace(statuses=frozenset({status})) for status in sorted(statuses)]


def needs_looking(where: TaskFilter) -> bool:
    """Whether a page of these is looked for in one task after the other, and so in a limited number of them."""
    return _split(where)[1] is not None


def _split(where: TaskFilter) -> tuple[TaskFilter, TaskFilter | None]:
    """What indexes find, and what has to be looked for in one task after the other of these. Not among those that are
    not final: their index says how many there are, and has priorities."""
    statuses = where.statuses
    if (where.q is None and where.priority is None) or (statuses and not statuses & FINAL):
        return where, None
    rare = statuses if statuses is None or statuses <= _RARE else None
    looked_for = TaskFilter(q=where.q, priority=where.priority, statuses=None if rare else statuses)
    return where._replace(q=None, priority=None, statuses=rare), looked_for


def page_of(
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
    found = sa.select(among.c.id).where(*conditions_of(looked_for, among))
    return found.order_by(among.c.id.desc()).limit(limit).subquery()


def last_looked_at(
    tenant_id: str, where: TaskFilter, before: str | None, most_looked_at: int
) -> sa.Select[Any]:
    """The id at which `page_of` ends its search; none if it comes to an end of its own before."""
    return _ids(tenant_id, _split(where)[0], before).offset(most_looked_at - 1).limit(1)


def _ids(tenant_id: str, where: TaskFilter, before: str | None) -> sa.Select[Any]:
    t, tags = schema.tasks, schema.task_tags
    ids = sa.select(t.c.id).where(t.c.tenant_id == tenant_id, *conditions_of(where))
    if before is not None:
        ids = ids.where(t.c.id < before)
    if where.tag is not None:
        tagged = sa.and_(tags.c.tenant_id == t.c.tenant_id, tags.c.task_id == t.c.id)
        ids = ids.join(tags, tagged).where(tags.c.tag == where.tag)
    return ids.order_by(t.c.id.desc())


def conditions_of(
    where: TaskFilter, t: sa.FromClause = schema.tasks
) -> list[sa.ColumnElement[bool]]:
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
