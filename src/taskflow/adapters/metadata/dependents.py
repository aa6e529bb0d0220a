"""What the end of a task means for the tasks that depend on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import Journal, NewEvent, NewResult, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.classification import describe
from taskflow.core.errors import DependencyFailedError
from taskflow.core.events import EventType
from taskflow.core.task import ErrorClass, TaskStatus
from taskflow.ports.metadata import TaskKey

DEPENDENCY_FAILED = (
    "dependency_failed"  # fingerprint of every task that failed only because of another one
)


class FollowUp(NamedTuple):
    sends: list[Send]
    ended: list[TaskKey]


class _Child(NamedTuple):
    tenant_id: str
    task_id: str
    task: str
    priority: int
    run_at: int
    status: str
    waits_for: int
    fingerprint: str | None
    finished_at: int | None
    parent: str

    @property
    def key(self) -> TaskKey:
        return TaskKey(self.tenant_id, self.task_id)

    @property
    def waits(self) -> bool:
        """Whether ``waits_for`` is kept up to date: also while failed, so that a redrive finds it right."""
        return self.status == TaskStatus.BLOCKED or self.fingerprint == DEPENDENCY_FAILED


class Dependents:
    """Releases or fails blocked tasks, inside the transaction in which the task they wait for ended."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._journal = journal
        t, d = schema.tasks, schema.task_dependencies
        parents = batch_table(database, {"tenant_id": TEXT, "task_id": ID})
        children = (
            sa.select(
                t.c.tenant_id,
                t.c.id,
                t.c.task,
                t.c.priority,
                t.c.run_at,
                t.c.status,
                t.c.waits_for,
                t.c.fingerprint,
                t.c.finished_at,
                d.c.depends_on,
            )
            .select_from(parents)
            .join(
                d,
                sa.and_(d.c.tenant_id == parents.c.tenant_id, d.c.depends_on == parents.c.task_id),
            )
            .join(t, sa.and_(t.c.tenant_id == d.c.tenant_id, t.c.id == d.c.task_id))
        )
        kept = children
        if not database.is_sqlite:
            # In one order, so that two that end parents do not wait for each other. Who is released is as unfinished as
            # before: that waits for nobody who submits what depends on it (`execution_statements.py`).
            ordered = children.order_by(t.c.tenant_id, t.c.id)
            children = ordered.with_for_update(of=t)
            kept = ordered.with_for_update(of=t, key_share=True)
        self._children = database.prepare_rows(children)
        self._children_to_release = database.prepare_rows(kept)
        p = schema.tasks.alias("parent")
        those = batch_table(database, {"tenant_id": TEXT, "task_id": ID})
        self._hopeless = database.prepare_rows(
            sa.select(d.c.tenant_id, d.c.task_id)
            .select_from(those)
            .join(d, sa.and_(d.c.tenant_id == those.c.tenant_id, d.c.task_id == those.c.task_id))
            .join(p, sa.and_(p.c.tenant_id == d.c.tenant_id, p.c.id == d.c.depends_on))
            .where(p.c.finished_at.is_not(None), p.c.status != sa.literal_column("'completed'"))
        )
        unfinished = sa.case((p.c.finished_at.is_(None), 1), else_=0)
        completed: sa.ColumnElement[str] = sa.literal_column("'completed'")
        unsuccessful = sa.case((sa.and_(unfinished == 0, p.c.status != completed), 1), else_=0)
        self._unfinished = database.prepare_rows(
            sa.select(d.c.tenant_id, d.c.task_id, sa.func.sum(unfinished))
            .select_from(those)
            .join(d, sa.and_(d.c.tenant_id == those.c.tenant_id, d.c.task_id == those.c.task_id))
            .join(p, sa.and_(p.c.tenant_id == d.c.tenant_id, p.c.id == d.c.depends_on))
            .group_by(d.c.tenant_id, d.c.task_id)
            .having(sa.func.sum(unfinished) > 0, sa.func.sum(unsuccessful) == 0)
        )
        waiting = batch_table(database, {"tenant_id": TEXT, "task_id": ID, "waits_for": INTEGER})
        self._wait = database.prepare(
            t.update()
            .values(
                status=sa.literal_column(f"'{TaskStatus.BLOCKED.value}'"),
                waits_for=waiting.c.waits_for,
            )
            .where(t.c.tenant_id == waiting.c.tenant_id, t.c.id == waiting.c.task_id)
        )
        change = batch_table(
            database,
            {
                "tenant_id": TEXT,
                "task_id": ID,
                "status": TEXT,
                "finished_at": INTEGER,
                "fingerprint": TEXT,
            },
        )
        self._set_status = database.prepare(
            t.update()
            .values(
                status=change.c.status,
                finished_at=change.c.finished_at,
                fingerprint=change.c.fingerprint,
                discarded=0,
            )
            .where(t.c.tenant_id == change.c.tenant_id, t.c.id == change.c.task_id)
        )
        count = batch_table(database, {"tenant_id": TEXT, "task_id": ID, "by": INTEGER})
        self._count = database.prepare(
            t.update()
            .values(waits_for=t.c.waits_for + count.c.by)
            .where(t.c.tenant_id == count.c.tenant_id, t.c.id == count.c.task_id)
        )

    def after(
        self, tx: Transaction, *, completed: Sequence[TaskKey], unsuccessful: Sequence[TaskKey]
    ) -> FollowUp:
        """Release what waited only for ``completed``; fail what depends on ``unsuccessful``, and theirs in turn."""
        follow_up = FollowUp([], [])
        if completed:
            rows = tx.rows(self._children_to_release, batch=batch_text(completed))
            self._release(tx, [_Child(*row) for row in rows], follow_up)
        while unsuccessful:
            failed = self._fail(tx, self._load(tx, unsuccessful))
            follow_up.ended.extend(failed)
            unsuccessful = failed
        return follow_up

    def block_again(
        self, tx: Transaction, redriven: Sequence[TaskKey], *, were_completed: Sequence[TaskKey]
    ) -> list[TaskKey]:
        """``redriven`` run anew: what failed because of them waits for them again, and theirs in turn; what waits for
        another task beside one of ``were_completed`` waits for that one, too.

        Returns what waits again. What depends on yet another task that has failed stays as it is.
        """
        self._add(tx, Counter(child.key for child in self._load(tx, were_completed) if child.waits))
        again: list[TaskKey] = []
        parents = list(redriven)
        while parents:
            children = {
                c.key: c for c in self._load(tx, parents) if c.fingerprint == DEPENDENCY_FAILED
            }
            parents = self._revive(tx, children) if children else []
            again += parents
        return again

    def wait_for_unfinished(self, tx: Transaction, keys: Sequence[TaskKey]) -> set[TaskKey]:
        """Block those of ``keys``, which are to run, that depend on a task which is to run itself; returns them.

        One that depends on a task which ended without success would wait for ever: it is left as it is.
        """
        rows = tx.rows(self._unfinished, batch=batch_text(list(keys))) if keys else []
        if rows:
            tx.run(self._wait, batch=batch_text([tuple(row) for row in rows]))
        return {TaskKey(row[0], row[1]) for row in rows}

    def _revive(self, tx: Transaction, children: Mapping[TaskKey, _Child]) -> list[TaskKey]:
        hopeless = tx.rows(self._hopeless, batch=batch_text(list(children)))
        revived = children.keys() - {TaskKey(*row) for row in hopeless}
        if not revived:
            return []
        keys = sorted(revived)
        tx.run(
            self._set_status,
            batch=batch_text([(*key, TaskStatus.BLOCKED, None, None) for key in keys]),
        )
        self._journal.forget_results(tx, keys)
        self._journal.events(
            tx,
            [NewEvent(*key, EventType.REDRIVEN, None, '{"reason":"dependency"}') for key in keys],
        )
        ended = [children[key] for key in keys]
        self._journal.tally(
            tx, [Tally(c.tenant_id, c.finished_at or 0, c.task, c.status, 0.0, -1) for c in ended]
        )
        return keys

    def children(self, tx: Transaction, parents: Sequence[TaskKey]) -> set[TaskKey]:
        """All that depend on one of ``parents``, whatever became of them."""
        return {child.key for child in self._load(tx, parents)}

    def _load(self, tx: Transaction, parents: Sequence[TaskKey]) -> list[_Child]:
        if not parents:
            return []
        return [_Child(*row) for row in tx.rows(self._children, batch=batch_text(parents))]

    def _release(self, tx: Transaction, children: Sequence[_Child], follow_up: FollowUp) -> None:
        fewer = Counter(child.key for child in children if child.waits)
        self._add(tx, {key: -count for key, count in fewer.items()})
        ready = {
            c.key: c
            for c in children
            if c.status == TaskStatus.BLOCKED and c.waits_for <= fewer[c.key]
        }
        if not ready:
            return
        now, changes = tx.now, []
        for key, child in ready.items():
            status = TaskStatus.SCHEDULED if child.run_at > now else TaskStatus.PENDING
            changes.append((*key, status, None, None))
            follow_up.sends.append(Send(*key, child.task, child.priority, max(child.run_at, now)))
        tx.run(self._set_status, batch=batch_text(changes))
        self._journal.events(tx, [NewEvent(*key, EventType.RELEASED, None, None) for key in ready])

    def _fail(self, tx: Transaction, children: Sequence[_Child]) -> list[TaskKey]:
        blocked = {c.key: c for c in children if c.status == TaskStatus.BLOCKED}
        if not blocked:
            return []
        results = [failed_dependency(*key, parent=child.parent) for key, child in blocked.items()]
        tx.run(
            self._set_status,
            batch=batch_text(
                [(*key, TaskStatus.FAILED, tx.now, DEPENDENCY_FAILED) for key in blocked]
            ),
        )
        self._journal.results(tx, results)
        self._journal.events(
            tx,
            [
                NewEvent(r.tenant_id, r.task_id, EventType.FAILED, None, f'{{"error":{r.error}}}')
                for r in results
            ],
        )
        self._journal.tally(
            tx,
            [Tally(c.tenant_id, tx.now, c.task, TaskStatus.FAILED, 0.0) for c in blocked.values()],
        )
        return list(blocked)

    def _add(self, tx: Transaction, counts: Mapping[TaskKey, int]) -> None:
        if counts:
            tx.run(self._count, batch=batch_text([(*key, count) for key, count in counts.items()]))


def failed_dependency(tenant_id: str, task_id: str, *, parent: str) -> NewResult:
    """The result row of a task that never can run because ``parent`` did not complete."""
    error = describe(
        DependencyFailedError(f"task {parent}, which this one depends on, did not complete"),
        ErrorClass.PERMANENT,
    )
    return NewResult(tenant_id, task_id, None, None, error.model_dump_json())
