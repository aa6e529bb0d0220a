"""TaskStore, changing: what people do to tasks by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.contention import PATIENCE_SECONDS, lock_timeout, until_unlocked
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import DEPENDENCY_FAILED, Dependents
from taskflow.adapters.metadata.journal import Journal, NewEvent, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.task import FINAL, TaskStatus, sources
from taskflow.ports.metadata import CancelResult, RedriveResult, TaskKey

_MICROSECONDS = 1_000_000


class _State(NamedTuple):
    tenant_id: str
    task_id: str
    status: TaskStatus
    task: str
    priority: int
    run_at: int
    finished_at: int | None
    duration_ms: float | None
    discarded: int
    fingerprint: str | None


class SqlControl:
    def __init__(self, database: Database, journal: Journal, dependents: Dependents) -> None:
        self._database = database
        self._journal = journal
        self._dependents = dependents
        t = schema.tasks
        batch = batch_table(database, {"tenant_id": TEXT, "id": ID})
        is_batch = sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id)
        states = (
            sa.select(
                t.c.tenant_id,
                t.c.id,
                t.c.status,
                t.c.task,
                t.c.priority,
                t.c.run_at,
                t.c.finished_at,
                t.c.duration_ms,
                t.c.discarded,
                t.c.fingerprint,
            )
            .select_from(batch)
            .join(t, is_batch)
        )
        self._states = database.prepare_rows(
            states
            if database.is_sqlite
            else states.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t)
        )
        self._cancel = database.prepare(
            t.update()
            .values(
                status=sa.literal_column(f"'{TaskStatus.CANCELLED.value}'"),
                finished_at=sa.bindparam("now", type_=INTEGER),
                cancel_requested=1,
            )
            .where(is_batch)
        )
        self._request_cancel = database.prepare(
            t.update().values(cancel_requested=1).where(is_batch)
        )
        self._discard = database.prepare(t.update().values(discarded=1).where(is_batch))
        redrive = batch_table(
            database, {"tenant_id": TEXT, "id": ID, "status": TEXT, "run_at": INTEGER}
        )
        self._redrive = database.prepare(
            t.update()
            .values(
                status=redrive.c.status,
                run_at=redrive.c.run_at,
                attempt=0,
                failure_count=0,
                crash_count=0,
                finished_at=sa.null(),
                started_at=sa.null(),
                worker_id=sa.null(),
                duration_ms=sa.null(),
                progress=sa.null(),
                progress_message=sa.null(),
                cancel_requested=0,
                fingerprint=sa.null(),
                discarded=0,
                # A deadline that has passed would expire the task again at once.
                expires_at=sa.case(
                    (t.c.expires_at > redrive.c.run_at, t.c.expires_at), else_=sa.null()
                ),
            )
            .where(t.c.tenant_id == redrive.c.tenant_id, t.c.id == redrive.c.id)
        )

    def cancel(self, keys: Sequence[TaskKey], *, request_id: str | None = None) -> CancelResult:
        return until_unlocked(lambda: self._cancel_now(keys, request_id))

    def _cancel_now(self, keys: Sequence[TaskKey], request_id: str | None) -> CancelResult:
        with self._database.write() as tx:
            states = self._load(tx, keys)
            running = [key for key, state in states.items() if state.status is TaskStatus.RUNNING]
            cancellable = sources(TaskStatus.CANCELLED) - {TaskStatus.RUNNING}
            waiting = [key for key, state in states.items() if state.status in cancellable]
            if running:
                tx.run(self._request_cancel, batch=batch_text(running))
                self._events(tx, running, EventType.CANCEL_REQUESTED, request_id)
            ended = list(waiting)
            if waiting:
                tx.run(self._cancel, batch=batch_text(waiting), now=tx.now)
                self._journal.unsend(tx, ((key, states[key].run_at) for key in waiting))
                self._events(tx, waiting, EventType.CANCELLED, request_id)
                self._journal.tally(
                    tx,
                    [
                        Tally(key.tenant_id, tx.now, states[key].task, TaskStatus.CANCELLED, 0.0)
                        for key in waiting
                    ],
                )
                ended += self._dependents.after(tx, completed=(), unsuccessful=waiting).ended
        return CancelResult(_before(keys, states), ended)

    def redrive(
        self,
        keys: Sequence[TaskKey],
        *,
        delay_seconds: Sequence[float],
        max_queue_delay_seconds: float,
        outbox: bool,
        request_id: str | None = None,
    ) -> RedriveResult:
        delays = dict(zip(keys, delay_seconds, strict=True))
        return until_unlocked(
            lambda: self._redrive_now(keys, delays, max_queue_delay_seconds, outbox, request_id)
        )

    def _redrive_now(
        self,
        keys: Sequence[TaskKey],
        delays: Mapping[TaskKey, float],
        max_queue_delay_seconds: float,
        outbox: bool,
        request_id: str | None,
    ) -> RedriveResult:
        payloads: list[str] = []
        with self._database.write() as tx:
            states = self._load(tx, keys)
            left = {key: state for key, state in states.items() if state.status in FINAL}
            due_at = {key: tx.now + int(delays[key] * _MICROSECONDS) for key in left}
            anew: dict[TaskKey, _State] = {}
            redriven: list[TaskKey] = []
            # What failed only because of another one of these waits for that one again, and does not run before it.
            roots = [key for key, s in left.items() if s.fingerprint != DEPENDENCY_FAILED]
            while left:
                if not roots:
                    children = self._dependents.children(tx, list(left))
                    roots = [key for key in left if key not in children]
                chosen = {key: left.pop(key) for key in roots}
                payloads += self._run_anew(tx, chosen, due_at, request_id)
                anew |= chosen
                again = self._dependents.block_again(
                    tx,
                    [key for key, s in chosen.items() if s.status is not TaskStatus.COMPLETED],
                    were_completed=[
                        key for key, s in chosen.items() if s.status is TaskStatus.COMPLETED
                    ],
                )
                redriven += [*chosen, *again]
                # What else depends on these, depends on one that failed and is not among them as well.
                for key in {*again, *self._dependents.children(tx, list(chosen))} & left.keys():
                    del left[key]
                roots = []
            waiting = self._dependents.wait_for_unfinished(tx, list(anew))
            sends = [
                Send(*key, state.task, state.priority, due_at[key])
                for key, state in anew.items()
                if key not in waiting
            ]
            to_send = self._journal.send(
                tx, sends, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
            )
        return RedriveResult(_before(keys, states), redriven, to_send, payloads)

    def _run_anew(
        self,
        tx: Transaction,
        chosen: Mapping[TaskKey, _State],
        due_at: Mapping[TaskKey, int],
        request_id: str | None,
    ) -> list[str]:
        """Returns the payload keys of results that are forgotten."""
        rows = []
        for key in chosen:
            status = TaskStatus.SCHEDULED if due_at[key] > tx.now else TaskStatus.PENDING
            rows.append((*key, status, due_at[key]))
        tx.run(self._redrive, batch=batch_text(rows))
        self._events(tx, list(chosen), EventType.REDRIVEN, request_id)
        self._journal.tally(
            tx,
            [
                Tally(s.tenant_id, s.finished_at or 0, s.task, s.status, s.duration_ms or 0.0, -1)
                for s in chosen.values()
            ],
        )
        return self._journal.forget_results(tx, list(chosen))

    def discard(self, keys: Sequence[TaskKey], *, request_id: str | None = None) -> list[TaskKey]:
        with self._database.write() as tx:
            states = self._load(tx, keys)
            chosen = [
                k for k, s in states.items() if s.status is TaskStatus.FAILED and not s.discarded
            ]
            if chosen:
                tx.run(self._discard, batch=batch_text(chosen))
                self._events(tx, chosen, EventType.DISCARDED, request_id)
        return chosen

    def _load(self, tx: Transaction, keys: Sequence[TaskKey]) -> dict[TaskKey, _State]:
        """Locked. Raises StoreLockedError if others hold one of them for long."""
        with lock_timeout(tx, None if self._database.is_sqlite else PATIENCE_SECONDS):
            return _by_key(tx.rows(self._states, batch=batch_text(list(dict.fromkeys(keys)))))

    def _events(
        self, tx: Transaction, keys: Sequence[TaskKey], kind: EventType, request_id: str | None
    ) -> None:
        data = None if request_id is None else dumps({"request_id": request_id})
        self._journal.events(tx, [NewEvent(*key, kind, None, data) for key in keys])


def _by_key(rows: Sequence[Sequence[Any]]) -> dict[TaskKey, _State]:
    return {
        TaskKey(row[0], row[1]): _State(row[0], row[1], TaskStatus(row[2]), *row[3:])
        for row in rows
    }


def _before(
    keys: Sequence[TaskKey], states: dict[TaskKey, _State]
) -> dict[TaskKey, TaskStatus | None]:
    return {key: states[key].status if key in states else None for key in keys}
