"""ExecutionStore: claim (`claims.py`), finish, heartbeat, expiry. One statement per batch decides; the rest follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import execution_statements as statements
from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, TEXT, batch_text
from taskflow.adapters.metadata.certainty import until_known
from taskflow.adapters.metadata.claims import SqlClaims
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.journal import Journal, NewEvent, NewResult, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.task import FINAL, TaskStatus
from taskflow.ports.metadata import (
    ExpireResult,
    FinishResult,
    HeartbeatResult,
    Lease,
    LostTask,
    Outcome,
    TaskKey,
)

_MICROSECONDS = 1_000_000
_CANCELLED = TaskStatus.CANCELLED
_EVENT_OF = {
    TaskStatus.COMPLETED: EventType.COMPLETED,
    TaskStatus.FAILED: EventType.FAILED,
    TaskStatus.CANCELLED: EventType.CANCELLED,
    TaskStatus.RETRYING: EventType.RETRYING,
    TaskStatus.PENDING: EventType.RELEASED,
}


class SqlExecution(SqlClaims):
    def __init__(
        self,
        database: Database,
        journal: Journal,
        dependents: Dependents,
        new_token: Callable[[], int],
    ) -> None:
        super().__init__(database, new_token)
        self._journal = journal
        self._dependents = dependents
        self._finish = database.prepare(statements.finish(database))
        e = schema.events
        self._known_event = database.prepare_rows(
            sa.select(e.c.id).where(
                e.c.tenant_id == sa.bindparam("tenant", type_=TEXT),
                e.c.task_id == sa.bindparam("task", type_=ID),
                e.c.type == sa.bindparam("type", type_=TEXT),
                e.c.attempt == sa.bindparam("attempt", type_=INTEGER),
            )
        )
        self._leases = database.prepare_rows(statements.leases(database))
        self._extend = database.prepare(statements.extend(database))
        expiring = statements.expiring()
        self._any_expiring = database.prepare_rows(expiring)
        self._expiring = database.prepare_rows(
            expiring if database.is_sqlite else expiring.with_for_update(skip_locked=True)
        )
        self._expire = database.prepare(statements.expire(database))
        self._lost = database.prepare_rows(statements.lost(database))

    # --- finish ---------------------------------------------------------------------------------

    def finish(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        if not outcomes:
            return FinishResult([], [], [])

        # Before the transaction: nobody waits for it yet.
        events = list(map(_event, outcomes))

        def write(tx: Transaction) -> tuple[FinishResult, NewEvent | None]:
            return self._finish_in(
                tx, outcomes, events, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
            )

        def happened(tx: Transaction, result: tuple[FinishResult, NewEvent | None]) -> bool:
            event = result[1]
            return event is None or bool(
                tx.rows(
                    self._known_event,
                    tenant=event.tenant_id, task=event.task_id, type=event.type, attempt=event.attempt,
                )
            )  # fmt: skip

        return until_known(self._database, write, happened, patient=True)[0]

    def _finish_in(
        self,
        tx: Transaction,
        outcomes: Sequence[Outcome],
        planned: Sequence[NewEvent],
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> tuple[FinishResult, NewEvent | None]:
        """``planned``: the event of each outcome. Returned with one of those that were written, None if nothing was."""
        fenced: list[TaskKey] = []
        now = tx.now
        states = {
            (row[0], row[1]): row[2:] for row in tx.rows(self._leases, batch=_lease_batch(outcomes))
        }
        kept: list[Outcome] = []
        events: list[NewEvent] = []
        tasks: list[tuple[str, int]] = []  # name and priority of each kept outcome
        for outcome, event in zip(outcomes, planned, strict=True):
            key = TaskKey(outcome.tenant_id, outcome.task_id)
            state = states.get(key)
            if state is None or state[0] != outcome.lease_token:
                fenced.append(key)
                continue
            del states[key]  # an outcome given twice counts once
            _, cancel_requested, task, priority, _ = state
            if cancel_requested and outcome.status not in FINAL:
                kept.append(outcome._replace(status=_CANCELLED))
                events.append(_event(kept[-1]))
            else:
                kept.append(outcome)
                events.append(event)
            tasks.append((task, priority))
        if not kept:
            return FinishResult(fenced, [], []), None
        due_at = [now + int(outcome.retry_delay_seconds * _MICROSECONDS) for outcome in kept]
        rows = [
            (o.tenant_id, o.task_id, o.lease_token, o.status, o.attempt, o.duration_ms, o.fingerprint,
             None if o.status in FINAL else due, now if o.status in FINAL else None, int(o.counts_failure),
             int(o.counts_crash))
            for o, due in zip(kept, due_at, strict=True)
        ]  # fmt: skip
        changed = tx.run(self._finish, batch=batch_text(rows))
        assert changed == len(kept), f"{changed} of {len(kept)} outcomes written under the lock"
        self._journal.results(
            tx,
            [
                NewResult(o.tenant_id, o.task_id, o.result, o.result_key, o.error)
                for o in kept
                if o.status is not TaskStatus.PENDING
            ],
        )
        self._journal.events(tx, events)
        result = self._follow_up(
            tx,
            fenced,
            kept,
            tasks,
            due_at,
            max_queue_delay_seconds=max_queue_delay_seconds,
            outbox=outbox,
        )
        return result, events[0]

    def _follow_up(
        self,
        tx: Transaction,
        fenced: list[TaskKey],
        kept: Sequence[Outcome],
        tasks: Sequence[tuple[str, int]],
        due_at: Sequence[int],
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> FinishResult:
        completed: list[TaskKey] = []
        unsuccessful: list[TaskKey] = []
        sends: list[Send] = []
        tallies: list[Tally] = []
        for outcome, (task, priority), due in zip(kept, tasks, due_at, strict=True):
            if outcome.status in FINAL:
                key = TaskKey(outcome.tenant_id, outcome.task_id)
                (completed if outcome.status is TaskStatus.COMPLETED else unsuccessful).append(key)
                tallies.append(
                    Tally(outcome.tenant_id, tx.now, task, outcome.status, outcome.duration_ms)
                )
            else:
                sends.append(Send(outcome.tenant_id, outcome.task_id, task, priority, due))
        more = self._dependents.after(tx, completed=completed, unsuccessful=unsuccessful)
        self._journal.tally(tx, tallies)
        to_send = self._journal.send(
            tx,
            [*sends, *more.sends],
            max_queue_delay_seconds=max_queue_delay_seconds,
            outbox=outbox,
        )
        return FinishResult(fenced, to_send, [*completed, *unsuccessful, *more.ended])

    # --- keep -----------------------------------------------------------------------------------

    def heartbeat(self, leases: Sequence[Lease], *, lease_seconds: float) -> HeartbeatResult:
        if not leases:
            return HeartbeatResult([], [])
        cancel_requested: list[TaskKey] = []
        lost: list[TaskKey] = []
        with self._database.write(durable=False) as tx:
            states = {
                (row[0], row[1]): row[2:]
                for row in tx.rows(self._leases, batch=_lease_batch(leases))
            }
            kept: list[Lease] = []
            events: list[NewEvent] = []
            for lease in leases:
                key = TaskKey(lease.tenant_id, lease.task_id)
                state = states.get(key)
                if state is None or state[0] != lease.lease_token:
                    lost.append(key)
                    continue
                kept.append(lease)
                if state[1]:
                    cancel_requested.append(key)
                if lease.progress is not None:
                    data = dumps({"progress": lease.progress, "message": lease.progress_message})
                    events.append(NewEvent(*key, EventType.PROGRESS, state[4], data))
            if kept:
                until = tx.now + int(lease_seconds * _MICROSECONDS)
                tx.run(self._extend, batch=batch_text(kept), until=until)
                self._journal.events(tx, events)
        return HeartbeatResult(cancel_requested, lost)

    def expire(self, *, limit: int) -> ExpireResult:
        if not self._database.read_rows(self._any_expiring, now=self._database.now(), limit=1):
            return ExpireResult([], [])
        with self._database.write() as tx:
            rows = tx.rows(self._expiring, now=tx.now, limit=limit)
            if not rows:
                return ExpireResult([], [])
            keys = [TaskKey(row[0], row[1]) for row in rows]
            tx.run(self._expire, batch=batch_text(keys), now=tx.now)
            self._journal.unsend(tx, zip(keys, (row[3] for row in rows), strict=True))
            self._journal.events(
                tx, [NewEvent(*key, EventType.EXPIRED, None, None) for key in keys]
            )
            self._journal.tally(
                tx, [Tally(row[0], tx.now, row[2], TaskStatus.EXPIRED, 0.0) for row in rows]
            )
            more = self._dependents.after(tx, completed=(), unsuccessful=keys)
        return ExpireResult(keys, more.ended)

    def lost(self, *, dead_workers: Sequence[str], limit: int) -> list[LostTask]:
        rows = self._database.read_rows(
            self._lost,
            now=self._database.now(),
            workers=batch_text([[worker] for worker in dead_workers]),
            limit=limit,
        )
        return [LostTask._make((*row[:-1], bool(row[-1]))) for row in rows]


def _event(outcome: Outcome) -> NewEvent:
    """Its data: duration, and for what failed the error without its traceback (that is in the result)."""
    kind = _EVENT_OF[outcome.status]
    if outcome.counts_crash and outcome.status is TaskStatus.PENDING:
        kind = EventType.RECOVERED
    data: dict[str, Any] = {"duration_ms": round(outcome.duration_ms, 3)}
    if outcome.status is TaskStatus.RETRYING:
        data["delay_seconds"] = round(outcome.retry_delay_seconds, 3)
    text = dumps(data)
    if outcome.error is not None:
        text = f'{text[:-1]},"error":{outcome.error}}}'
    return NewEvent(outcome.tenant_id, outcome.task_id, kind, outcome.attempt, text)


def _lease_batch(leases: Sequence[Outcome] | Sequence[Lease]) -> str:
    return batch_text([(lease.tenant_id, lease.task_id) for lease in leases])
