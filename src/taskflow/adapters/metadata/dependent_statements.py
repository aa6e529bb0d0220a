"""The statements that find the tasks which depend on those of a batch, and what they wait for (`batch.py`)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_table
from taskflow.adapters.metadata.database import Database

_COMPLETED: sa.ColumnElement[str] = sa.literal_column("'completed'")


def children(database: Database) -> sa.Select[Any]:
    """Of a batch of parents: their keys, `_state` and parent. What somebody else has locked is there without a state.

    They are locked as what ends is, and nobody waits for that: a caller's transaction may hold them for long, and
    graphs that end from several sides at once come to the same tasks in any order.
    """
    t, d = schema.tasks, schema.task_dependencies
    found = _children(database)
    if database.is_sqlite:
        return sa.select(t.c.tenant_id, t.c.id, *_state(t), d.c.depends_on).select_from(found)
    f = t.alias("f")
    free = (
        sa.select(*_state(f))
        .where(f.c.tenant_id == t.c.tenant_id, f.c.id == t.c.id)
        .with_for_update(skip_locked=True)
        .lateral("free")
    )
    return sa.select(t.c.tenant_id, t.c.id, *free.c, d.c.depends_on).select_from(
        found.join(free, sa.true(), isouter=True)
    )


def children_to_release(database: Database) -> sa.Select[Any]:
    """The same; on PostgreSQL locked in one order, so that two that end parents do not wait for each other. Who is
    released is as unfinished as before: that waits for nobody who submits what depends on it
    (`execution_statements.py`)."""
    t, d = schema.tasks, schema.task_dependencies
    statement = sa.select(t.c.tenant_id, t.c.id, *_state(t), d.c.depends_on).select_from(
        _children(database)
    )
    if database.is_sqlite:
        return statement
    return statement.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t, key_share=True)


def hopeless(database: Database) -> sa.Select[Any]:
    """Those of a batch that depend on a task which ended without success."""
    d, p = schema.task_dependencies, schema.tasks.alias("parent")
    return (
        sa.select(d.c.tenant_id, d.c.task_id)
        .select_from(_parents(database, p))
        .where(p.c.finished_at.is_not(None), p.c.status != _COMPLETED)
    )


def unfinished(database: Database) -> sa.Select[Any]:
    """Those of a batch that depend on a task which is to run, and on none that ended without success; on how many."""
    d, p = schema.task_dependencies, schema.tasks.alias("parent")
    is_unfinished = sa.case((p.c.finished_at.is_(None), 1), else_=0)
    is_unsuccessful = sa.case((sa.and_(is_unfinished == 0, p.c.status != _COMPLETED), 1), else_=0)
    return (
        sa.select(d.c.tenant_id, d.c.task_id, sa.func.sum(is_unfinished))
        .select_from(_parents(database, p))
        .group_by(d.c.tenant_id, d.c.task_id)
        .having(sa.func.sum(is_unfinished) > 0, sa.func.sum(is_unsuccessful) == 0)
    )


def _state(t: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    names = ("task", "priority", "run_at", "status", "waits_for", "fingerprint", "finished_at")
    return [t.c[name] for name in names]


def _children(database: Database) -> sa.Join:
    """A batch of parents with what depends on them."""
    t, d, those = schema.tasks, schema.task_dependencies, _batch(database)
    return those.join(
        d, sa.and_(d.c.tenant_id == those.c.tenant_id, d.c.depends_on == those.c.task_id)
    ).join(t, sa.and_(t.c.tenant_id == d.c.tenant_id, t.c.id == d.c.task_id))


def _parents(database: Database, p: sa.FromClause) -> sa.Join:
    """A batch of tasks with what they depend on."""
    d, those = schema.task_dependencies, _batch(database)
    return those.join(
        d, sa.and_(d.c.tenant_id == those.c.tenant_id, d.c.task_id == those.c.task_id)
    ).join(p, sa.and_(p.c.tenant_id == d.c.tenant_id, p.c.id == d.c.depends_on))


def _batch(database: Database) -> sa.Subquery:
    return batch_table(database, {"tenant_id": TEXT, "task_id": ID})
