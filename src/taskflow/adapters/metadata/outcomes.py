"""Writing down how attempts ended, and what follows: retries, results, history, tallies, dependents.

An outcome whose lease is no longer the one it was made under is fenced: nothing of it is written. SQLite's writer looks
at the leases and then writes, since nobody else can meanwhile; PostgreSQL does all of it in one statement, one round
trip, with no row locked for longer than that takes to commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import execution_statements, outcome_statements, schema
from taskflow.adapters.metadata.batch import ID, INTEGER, TEXT, batch_text
from taskflow.adapters.metadata.certainty import until_known
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents, DependentsLockedError
from taskflow.adapters.metadata.journal import Journal, NewEvent, NewResult, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.task import FINAL, TaskStatus
from taskflow.ports.metadata import FinishResult, OutboxEntry, Outcome, TaskKey

_MICROSECONDS = 1_000_000
_EVENT_OF = {
    TaskStatus.COMPLETED: EventType.COMPLETED,
    TaskStatus.FAILED: EventType.FAILED,
    TaskStatus.CANCELLED: EventType.CANCELLED,
    TaskStatus.RETRYING: EventType.RETRYING,
    TaskStatus.PENDING: EventType.RELEASED,
}


_Lease = tuple[str, str, int]  # tenant, task and token


class _Written(NamedTuple):
    """An outcome as it was written down, and what its task is."""

    outcome: Outcome
    task: str
    priority: int


class SqlOutcomes:
    def __init__(self, database: Database, journal: Journal, dependents: Dependents) -> None:
        self._database = database
        self._journal = journal
        self._dependents = dependents
        self._leases = database.prepare_rows(execution_statements.leases(database))
        self._leases_unlocked = database.prepare_rows(
            execution_statements.leases(database, lock=False)
        )
        if database.is_sqlite:
            self._finish = database.prepare(outcome_statements.finish(database))
        else:
            self._finish_at_once = database.prepare_rows(
                outcome_statements.finish_at_once(database)
            )
        e = schema.events
        self._known_event = database.prepare_rows(
            sa.select(e.c.id).where(
                e.c.tenant_id == sa.bindparam("tenant", type_=TEXT),
                e.c.task_id == sa.bindparam("task", type_=ID),
                e.c.type == sa.bindparam("type", type_=TEXT),
                e.c.attempt == sa.bindparam("attempt", type_=INTEGER),
            )
        )

    def finish(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        locked: list[Outcome] = []
        left = list(outcomes)
        while left:
            try:
                result = self._finish_these(
                    left, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
                )
            except DependentsLockedError as exc:
                locked += [outcome for outcome in left if _key(outcome) in exc.parents]
                left = [outcome for outcome in left if _key(outcome) not in exc.parents]
            else:
                return result._replace(locked=[*result.locked, *locked])
        return FinishResult([], [], [], locked)

    def _finish_these(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        """All of them in one transaction. Raises DependentsLockedError."""
        # Before the transaction: nobody waits for it yet.
        attempt = self._in_steps(outcomes) if self._database.is_sqlite else self._at_once(outcomes)

        def write(tx: Transaction) -> tuple[FinishResult, _Written | None]:
            written = attempt(tx)
            kept = [done for done in written if done is not None]
            left = [o for o, done in zip(outcomes, written, strict=True) if done is None]
            locked = self._still_leased(tx, left) if left else set()
            to_send, ended = self._follow_up(
                tx, kept, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
            )
            result = FinishResult(
                [outcome for outcome in left if _lease(outcome) not in locked],
                to_send,
                ended,
                [outcome for outcome in left if _lease(outcome) in locked],
            )
            return result, next(iter(kept), None)

        def happened(tx: Transaction, result: tuple[FinishResult, _Written | None]) -> bool:
            return result[1] is None or self._is_written(tx, result[1].outcome)

        return until_known(self._database, write, happened, patient=True)[0]

    def _still_leased(self, tx: Transaction, left: Sequence[Outcome]) -> set[_Lease]:
        """The leases that still hold of the tasks of these outcomes, which others had locked then."""
        keys = batch_text(sorted({_key(outcome) for outcome in left}))
        return {(row[0], row[1], row[2]) for row in tx.rows(self._leases_unlocked, batch=keys)}

    def _is_written(self, tx: Transaction, outcome: Outcome) -> bool:
        key = batch_text([(outcome.tenant_id, outcome.task_id)])
        # Waits for a commit that is still under way. Who holds the lease has not ended: the event may be an older one,
        # of an attempt that was taken back or of before a redrive, after which attempts are counted anew.
        held = tx.rows(self._leases, batch=key)
        if any(row[2] == outcome.lease_token for row in held):
            return False
        event = _event(outcome)
        return bool(
            tx.rows(
                self._known_event,
                tenant=event.tenant_id, task=event.task_id, type=event.type, attempt=event.attempt,
            )
        )  # fmt: skip

    # --- each returns, for every outcome, what was written of it: None if its lease is lost or locked -----

    def _at_once(
        self, outcomes: Sequence[Outcome]
    ) -> Callable[[Transaction], list[_Written | None]]:
        distinct = {_lease(outcome): outcome for outcome in reversed(outcomes)}
        batch = batch_text([_given(outcome) for outcome in distinct.values()])

        def write(tx: Transaction) -> list[_Written | None]:
            rows = tx.rows(self._finish_at_once, batch=batch, now=tx.now)
            states = {(row[0], row[1], row[2]): row[3:] for row in rows}
            written: list[_Written | None] = []
            for outcome in outcomes:
                state = states.pop(_lease(outcome), None)  # one given twice counts once
                if state is None:
                    written.append(None)
                    continue
                status, task, priority = state
                done = outcome if status == outcome.status else _cancelled(outcome)
                written.append(_Written(done, task, priority))
            return written

        return write

    def _in_steps(
        self, outcomes: Sequence[Outcome]
    ) -> Callable[[Transaction], list[_Written | None]]:
        planned = list(map(_event, outcomes))
        leases = batch_text([(outcome.tenant_id, outcome.task_id) for outcome in outcomes])

        def write(tx: Transaction) -> list[_Written | None]:
            states = {
                (row[0], row[1], row[2]): row[3:] for row in tx.rows(self._leases, batch=leases)
            }
            written: list[_Written | None] = []
            events: list[NewEvent] = []
            for outcome, event in zip(outcomes, planned, strict=True):
                state = states.pop(_lease(outcome), None)  # one given twice counts once
                if state is None:
                    written.append(None)
                    continue
                cancel_requested, task, priority, _ = state
                stops = cancel_requested and outcome.status not in FINAL
                done = _cancelled(outcome) if stops else outcome
                written.append(_Written(done, task, priority))
                events.append(_event(done) if stops else event)
            self._write(tx, [done.outcome for done in written if done is not None], events)
            return written

        return write

    def _write(self, tx: Transaction, kept: Sequence[Outcome], events: Sequence[NewEvent]) -> None:
        if not kept:
            return
        now = tx.now
        rows = [
            (o.tenant_id, o.task_id, o.lease_token, o.status, o.attempt, o.duration_ms, o.fingerprint,
             None if o.status in FINAL else now + _delay_us(o), now if o.status in FINAL else None,
             int(o.counts_failure), int(o.counts_crash))
            for o in kept
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

    def _follow_up(
        self,
        tx: Transaction,
        kept: Sequence[_Written],
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> tuple[list[OutboxEntry], list[TaskKey]]:
        """What to send, and what has ended."""
        completed: list[TaskKey] = []
        unsuccessful: list[TaskKey] = []
        sends: list[Send] = []
        tallies: list[Tally] = []
        for outcome, task, priority in kept:
            if outcome.status in FINAL:
                key = _key(outcome)
                (completed if outcome.status is TaskStatus.COMPLETED else unsuccessful).append(key)
                tallies.append(
                    Tally(outcome.tenant_id, tx.now, task, outcome.status, outcome.duration_ms)
                )
            else:
                due_at = tx.now + _delay_us(outcome)
                sends.append(Send(outcome.tenant_id, outcome.task_id, task, priority, due_at))
        more = self._dependents.after(tx, completed=completed, unsuccessful=unsuccessful)
        self._journal.tally(tx, tallies)
        to_send = self._journal.send(
            tx,
            [*sends, *more.sends],
            max_queue_delay_seconds=max_queue_delay_seconds,
            outbox=outbox,
        )
        return to_send, [*completed, *unsuccessful, *more.ended]


def _lease(outcome: Outcome) -> _Lease:
    return outcome.tenant_id, outcome.task_id, outcome.lease_token


def _key(outcome: Outcome) -> TaskKey:
    return TaskKey(outcome.tenant_id, outcome.task_id)


def _delay_us(outcome: Outcome) -> int:
    return int(outcome.retry_delay_seconds * _MICROSECONDS)


def _cancelled(outcome: Outcome) -> Outcome:
    """What becomes of one that is not final once cancellation has been asked for."""
    return outcome._replace(status=TaskStatus.CANCELLED)


def _given(o: Outcome) -> tuple[Any, ...]:
    """A row of the batch of `finish_at_once`."""
    event = _event(o)
    cancelled_data = None if o.status in FINAL else _event(_cancelled(o)).data
    return (
        o.tenant_id, o.task_id, o.lease_token, o.status, o.attempt, o.duration_ms, o.fingerprint, _delay_us(o),
        int(o.counts_failure), int(o.counts_crash), o.result, o.result_key, o.error, event.type, event.data,
        cancelled_data,
    )  # fmt: skip


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
