"""What the end of a task means for the tasks that depend on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import dependent_statements, schema
from taskflow.adapters.metadata.batch import ID, INTEGER, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import Journal, NewEvent, NewResult, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.classification import describe
from taskflow.core.errors import DependencyFailedError, StoreLockedError
from taskflow.core.events import EventType
from taskflow.core.task import ErrorClass, TaskStatus
from taskflow.ports.metadata import TaskKey

DEPENDENCY_FAILED = (
    "dependency_failed"  # fingerprint of every task that failed only because of another one
)


class DependentsLockedError(StoreLockedError):
    """Somebody else's transaction holds what depends on ``parents``: what was done to these is to be taken back."""

    def __init__(self, parents: Collection[TaskKey]) -> None:
        super().__init__(
            "a transaction that has not ended yet holds tasks that depend on these; nothing was written",
            retry_after_seconds=1.0,
        )
        self.parents = parents


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
    def parent_key(self) -> TaskKey:
        return TaskKey(self.tenant_id, self.parent)

    @property
    def waits(self) -> bool:
        """Whether ``waits_for`` is kept up to date: also while failed, so that a redrive finds it right."""
        return self.status == TaskStatus.BLOCKED or self.fingerprint == DEPENDENCY_FAILED


class Dependents:
    """Releases or fails blocked tasks, inside the transaction in which the task they wait for ended."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._journal = journal
        t = schema.tasks
        self._children = database.prepare_rows(dependent_statements.children(database))
        self._children_to_release = database.prepare_rows(
            dependent_statements.children_to_release(database)
        )
        self._hopeless = database.prepare_rows(dependent_statements.hopeless(database))
        self._unfinished = database.prepare_rows(dependent_statements.unfinished(database))
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
        """Release what waited only for ``completed``; fail what depends on ``unsuccessful``, and theirs in turn.

        Raises DependentsLockedError once all have been looked at: those of ``unsuccessful`` that it names, beside what
        they would have failed, cannot end now. It may name others when what is left is tried.
        """
        follow_up = FollowUp([], [])
        if completed:
            rows = tx.rows(self._children_to_release, batch=batch_text(completed))
            self._release(tx, [_Child(*row) for row in rows], follow_up)
        parents_of: defaultdict[TaskKey, set[TaskKey]] = defaultdict(set)
        locked: set[TaskKey] = set()
        while unsuccessful:
            children, locked_here = self._lock(tx, unsuccessful)
            locked |= locked_here
            for child in children:
                parents_of[child.key].add(child.parent_key)
            unsuccessful = self._fail(tx, children)
            follow_up.ended.extend(unsuccessful)
        if locked:
            raise DependentsLockedError(_with_ancestors(locked, parents_of))
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
        """Raises DependentsLockedError."""
        children, locked = self._lock(tx, parents)
        if locked:
            raise DependentsLockedError(locked)
        return children

    def _lock(
        self, tx: Transaction, parents: Sequence[TaskKey]
    ) -> tuple[list[_Child], set[TaskKey]]:
        """All that depend on one of ``parents``, and those of ``parents`` some of whose are locked by somebody else."""
        children: list[_Child] = []
        locked: set[TaskKey] = set()
        for row in tx.rows(self._children, batch=batch_text(parents)) if parents else ():
            if row[2] is None:
                locked.add(TaskKey(row[0], row[-1]))
            else:
                children.append(_Child(*row))
        return children, locked

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


def _with_ancestors(
    keys: Iterable[TaskKey], parents_of: Mapping[TaskKey, Iterable[TaskKey]]
) -> set[TaskKey]:
    found: set[TaskKey] = set()
    left = list(keys)
    while left:
        key = left.pop()
        if key not in found:
            found.add(key)
            left += parents_of.get(key, ())
    return found


def failed_dependency(tenant_id: str, task_id: str, *, parent: str) -> NewResult:
    """The result row of a task that never can run because ``parent`` did not complete."""
    error = describe(
        DependencyFailedError(f"task {parent}, which this one depends on, did not complete"),
        ErrorClass.PERMANENT,
    )
    return NewResult(tenant_id, task_id, None, None, error.model_dump_json())
