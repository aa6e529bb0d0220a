"""ExecutionStore: claim, finish, heartbeat, expiry. One statement per batch decides; everything else follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, NUMBER, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database, Transaction
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.journal import Journal, NewEvent, NewResult, Send, Tally
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.task import CLAIMABLE, FINAL, WAITING, TaskStatus
from taskflow.ports.metadata import (
    ClaimedTask,
    ClaimResult,
    FinishResult,
    HeartbeatResult,
    Lease,
    LostTask,
    Outcome,
    TaskKey,
    Unclaimed,
)

_MICROSECONDS = 1_000_000
_CLOCK_SLACK_SECONDS = (
    0.001  # a message that is early by less is as good as due: hide it this long at least
)
_CANCELLED = TaskStatus.CANCELLED
_SUSPECT_WAIT_SECONDS = 0.25
_SUSPECT_SPREAD_SECONDS = 0.02  # so that many of them do not come back all at once
_NOT_YET_DUE = CLAIMABLE - {TaskStatus.PENDING}
_EVENT_OF = {
    TaskStatus.COMPLETED: EventType.COMPLETED,
    TaskStatus.FAILED: EventType.FAILED,
    TaskStatus.CANCELLED: EventType.CANCELLED,
    TaskStatus.RETRYING: EventType.RETRYING,
    TaskStatus.PENDING: EventType.RELEASED,
}


def one_of(column: sa.ColumnElement[str], statuses: Iterable[TaskStatus]) -> sa.ColumnElement[bool]:
    """``column IN ('…')`` with the statuses in the text, so that partial indexes can be recognised."""
    return column.in_([sa.literal_column(f"'{status.value}'") for status in sorted(statuses)])


class _TooManySuspectsError(Exception):
    """Takes back a claim. ``keys``: those to be left out of the next one."""

    def __init__(self, keys: Sequence[TaskKey]) -> None:
        super().__init__()
        self.keys = keys


class SqlExecution:
    def __init__(
        self,
        database: Database,
        journal: Journal,
        dependents: Dependents,
        new_token: Callable[[], int],
    ) -> None:
        self._database = database
        self._journal = journal
        self._dependents = dependents
        self._new_token = new_token
        self._claim = database.prepare(_claim(database))
        self._started_events = database.prepare(_started_events(database))
        self._claimed = database.prepare_rows(_claimed(database))
        self._state = database.prepare_rows(_state(database))
        self._finish = database.prepare(_finish(database))
        self._leases = database.prepare_rows(_leases(database))
        self._extend = database.prepare(_extend(database))
        expiring = _expiring()
        self._any_expiring = database.prepare_rows(expiring)
        self._expiring = database.prepare_rows(
            expiring if database.is_sqlite else expiring.with_for_update(skip_locked=True)
        )
        self._expire = database.prepare(_expire(database))
        self._lost = database.prepare_rows(_lost(database))

    # --- claim ----------------------------------------------------------------------------------

    def claim(
        self,
        keys: Sequence[TaskKey],
        *,
        worker_id: str,
        lease_seconds: float,
        most_suspects: int | None = None,
    ) -> ClaimResult:
        unique = list(dict.fromkeys(keys))
        try:
            return self._claim_these(unique, worker_id, lease_seconds, most_suspects)
        except _TooManySuspectsError as found:
            aside = found.keys
        rest = [key for key in unique if key not in set(aside)]
        result = self._claim_these(rest, worker_id, lease_seconds, None)
        waits = (_SUSPECT_WAIT_SECONDS + i * _SUSPECT_SPREAD_SECONDS for i in range(len(aside)))
        return result._replace(
            unclaimed=[*result.unclaimed, *map(Unclaimed, aside, waits)],
        )

    def _claim_these(
        self,
        keys: Sequence[TaskKey],
        worker_id: str,
        lease_seconds: float,
        most_suspects: int | None,
    ) -> ClaimResult:
        if not keys:
            return ClaimResult([], [])
        # In one order, so that two workers with the same messages do not wait for each other's rows.
        batch = batch_text(sorted(keys))
        token = self._new_token()
        unclaimed: list[Unclaimed] = []
        claimed: dict[TaskKey, ClaimedTask] = {}
        # A claim that a power cut undoes leaves a task that waits: no harm, and one wait for the disk less.
        with self._database.write(durable=False) as tx:
            now = tx.now
            until = now + int(lease_seconds * _MICROSECONDS)
            if tx.run(
                self._claim, batch=batch, now=now, token=token, until=until, worker_id=worker_id
            ):
                tx.run(
                    self._started_events, batch=batch, now=now, token=token, worker=dumps(worker_id)
                )
                for row in tx.rows(self._claimed, batch=batch, token=token):
                    task = ClaimedTask._make((*row, token))
                    claimed[TaskKey(task.tenant_id, task.task_id)] = task
                if most_suspects is not None:
                    suspects = [k for k in keys if k in claimed and claimed[k].crash_count]
                    if len(suspects) > most_suspects:
                        raise _TooManySuspectsError(suspects[most_suspects:])  # undoes it all
            if len(claimed) < len(keys):
                missing = [key for key in keys if key not in claimed]
                unclaimed = self._explain(tx, missing)
        return ClaimResult([claimed[key] for key in keys if key in claimed], unclaimed)

    def _explain(self, tx: Transaction, keys: Sequence[TaskKey]) -> list[Unclaimed]:
        """Why nothing was started: early (come back then), or finished, owned, expired, unknown (forget it)."""
        early: dict[TaskKey, float] = {}
        for tenant_id, task_id, status, run_at in tx.rows(self._state, batch=batch_text(keys)):
            if status in _NOT_YET_DUE and run_at > tx.now:
                wait = (run_at - tx.now) / _MICROSECONDS
                early[TaskKey(tenant_id, task_id)] = max(wait, _CLOCK_SLACK_SECONDS)
        return [Unclaimed(key, early.get(key)) for key in keys]

    # --- finish ---------------------------------------------------------------------------------

    def finish(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        if not outcomes:
            return FinishResult([], [], [])
        fenced: list[TaskKey] = []
        with self._database.write() as tx:
            now = tx.now
            states = {
                (row[0], row[1]): row[2:]
                for row in tx.rows(self._leases, batch=_lease_batch(outcomes))
            }
            kept: list[Outcome] = []
            tasks: list[tuple[str, int]] = []  # name and priority of each kept outcome
            for outcome in outcomes:
                state = states.pop((outcome.tenant_id, outcome.task_id), None)
                if state is None or state[0] != outcome.lease_token:
                    fenced.append(TaskKey(outcome.tenant_id, outcome.task_id))
                    continue
                _, cancel_requested, task, priority, _ = state
                cancelled = cancel_requested and outcome.status not in FINAL
                kept.append(outcome._replace(status=_CANCELLED) if cancelled else outcome)
                tasks.append((task, priority))
            if not kept:
                return FinishResult(fenced, [], [])
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
            self._journal.events(tx, [_event(outcome) for outcome in kept])
            return self._follow_up(
                tx,
                fenced,
                kept,
                tasks,
                due_at,
                max_queue_delay_seconds=max_queue_delay_seconds,
                outbox=outbox,
            )

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

    def expire(self, *, limit: int) -> list[TaskKey]:
        if not self._database.read_rows(self._any_expiring, now=self._database.now(), limit=1):
            return []
        with self._database.write() as tx:
            rows = tx.rows(self._expiring, now=tx.now, limit=limit)
            if not rows:
                return []
            keys = [TaskKey(row[0], row[1]) for row in rows]
            tx.run(self._expire, batch=batch_text(keys), now=tx.now)
            self._journal.events(
                tx, [NewEvent(*key, EventType.EXPIRED, None, None) for key in keys]
            )
            self._journal.tally(
                tx, [Tally(row[0], tx.now, row[2], TaskStatus.EXPIRED, 0.0) for row in rows]
            )
            more = self._dependents.after(tx, completed=(), unsuccessful=keys)
        return [*keys, *more.ended]

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


# --- statements -----------------------------------------------------------------------------------

_KEY = {"tenant_id": TEXT, "id": ID}


def _is(batch: sa.Subquery) -> sa.ColumnElement[bool]:
    t = schema.tasks
    return sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id)


def _claim(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        t.update()
        .values(
            status=sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
            attempt=t.c.attempt + sa.literal_column("1"),
            lease_token=sa.bindparam("token", type_=INTEGER),
            lease_until=sa.bindparam("until", type_=INTEGER),
            worker_id=sa.bindparam("worker_id", type_=TEXT),
            started_at=sa.bindparam("now", type_=INTEGER),
            progress=sa.null(),
            progress_message=sa.null(),
        )
        .where(
            _is(batch),
            one_of(t.c.status, CLAIMABLE),
            # Pending is due, whatever the clock says by now: it may have been set back.
            sa.or_(
                one_of(t.c.status, [TaskStatus.PENDING]),
                t.c.run_at <= sa.bindparam("now", type_=INTEGER),
            ),
            sa.or_(t.c.expires_at.is_(None), t.c.expires_at > sa.bindparam("now", type_=INTEGER)),
        )
    )


def _started_events(database: Database) -> sa.sql.dml.Insert:
    t, e = schema.tasks, schema.events
    batch = batch_table(database, _KEY)
    data = (
        sa.literal_column("'{\"worker_id\":'")
        .concat(sa.bindparam("worker", type_=TEXT))
        .concat(sa.literal_column("'}'"))
    )
    rows = (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            sa.literal_column(f"'{EventType.STARTED.value}'"),
            sa.bindparam("now", type_=INTEGER),
            t.c.attempt,
            data,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )
    return e.insert().from_select(["tenant_id", "task_id", "type", "at", "attempt", "data"], rows)


def _claimed(database: Database) -> sa.Select[Any]:
    t, i = schema.tasks, schema.task_inputs
    batch = batch_table(database, _KEY)
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.priority,
            t.c.attempt,
            t.c.failure_count,
            t.c.crash_count,
            t.c.max_retries,
            t.c.timeout_seconds,
            t.c.expires_at,
            t.c.created_at,
            t.c.run_at,
            t.c.started_at,
            i.c.arguments,
            i.c.input_key,
            i.c.metadata,
            i.c.request_id,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        .where(t.c.lease_token == sa.bindparam("token", type_=INTEGER))
    )


def _state(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        sa.select(t.c.tenant_id, t.c.id, t.c.status, t.c.run_at)
        .select_from(batch)
        .join(t, _is(batch))
    )


def _leases(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    statement = (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.lease_token,
            t.c.cancel_requested,
            t.c.task,
            t.c.priority,
            t.c.attempt,
        )
        .select_from(batch)
        .join(t, _is(batch))
        .where(t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"))
    )
    return (
        statement
        if database.is_sqlite
        else statement.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t)
    )


def _finish(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(
        database,
        {
            **_KEY, "lease_token": INTEGER, "status": TEXT, "attempt": INTEGER, "duration_ms": NUMBER,
            "fingerprint": TEXT, "run_at": INTEGER, "finished_at": INTEGER, "failures": INTEGER, "crashes": INTEGER,
        },
    )  # fmt: skip
    return (
        t.update()
        .values(
            status=batch.c.status,
            attempt=batch.c.attempt,
            duration_ms=batch.c.duration_ms,
            fingerprint=batch.c.fingerprint,
            run_at=sa.func.coalesce(batch.c.run_at, t.c.run_at),
            finished_at=batch.c.finished_at,
            failure_count=t.c.failure_count + batch.c.failures,
            crash_count=t.c.crash_count + batch.c.crashes,
            lease_token=sa.null(),
            lease_until=sa.null(),
        )
        .where(
            _is(batch),
            t.c.lease_token == batch.c.lease_token,
            t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
        )
    )


def _extend(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(
        database, {**_KEY, "lease_token": INTEGER, "progress": NUMBER, "progress_message": TEXT}
    )
    return (
        t.update()
        .values(
            lease_until=sa.bindparam("until", type_=INTEGER),
            progress=sa.func.coalesce(batch.c.progress, t.c.progress),
            progress_message=sa.case(
                (batch.c.progress.is_(None), t.c.progress_message), else_=batch.c.progress_message
            ),
        )
        .where(_is(batch), t.c.lease_token == batch.c.lease_token)
    )


def _expiring() -> sa.Select[Any]:
    t = schema.tasks
    return (
        sa.select(t.c.tenant_id, t.c.id, t.c.task)
        .where(
            t.c.expires_at.is_not(None),
            t.c.finished_at.is_(None),
            t.c.expires_at <= sa.bindparam("now", type_=INTEGER),
            one_of(t.c.status, WAITING),
        )
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def _expire(database: Database) -> sa.Update:
    t = schema.tasks
    batch = batch_table(database, _KEY)
    return (
        t.update()
        .values(
            status=sa.literal_column(f"'{TaskStatus.EXPIRED.value}'"),
            finished_at=sa.bindparam("now", type_=INTEGER),
        )
        .where(_is(batch), one_of(t.c.status, WAITING))
    )


def _lost(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    dead = batch_table(database, {"id": TEXT}, "workers")
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.worker_id,
            t.c.lease_token,
            t.c.lease_until,
            t.c.attempt,
            t.c.failure_count,
            t.c.crash_count,
            t.c.max_retries,
            t.c.expires_at,
            t.c.cancel_requested,
        )
        .where(
            t.c.finished_at.is_(None),
            t.c.status == sa.literal_column(f"'{TaskStatus.RUNNING.value}'"),
            sa.or_(
                t.c.lease_until < sa.bindparam("now", type_=INTEGER),
                t.c.worker_id.in_(sa.select(dead.c.id)),
            ),
        )
        .order_by(t.c.lease_until, t.c.tenant_id, t.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )
