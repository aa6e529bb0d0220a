"""TaskStore, changing: what people do to tasks by hand, and what retention deletes."""

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
from taskflow.core.ids import first_id
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
        if database.is_sqlite:
            self._states = self._states_unlocked = database.prepare_rows(states)
        else:
            self._states = database.prepare_rows(
                states.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t)
            )
            self._states_unlocked = database.prepare_rows(
                states.with_for_update(of=t, skip_locked=True)
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
        self._tenants = sa.select(schema.tallies.c.tenant_id).distinct()
        self._purge = [
            database.prepare(
                table.delete().where(
                    sa.tuple_(table.c.tenant_id, table.c[column]).in_(
                        sa.select(batch.c.tenant_id, batch.c.id)
                    )
                )
            )
            for table, column in (
                (schema.events, "task_id"),
                (schema.task_tags, "task_id"),
                (schema.task_dependencies, "task_id"),
                (schema.task_dependencies, "depends_on"),
                (schema.task_artifacts, "task_id"),
                (schema.task_results, "task_id"),
                (schema.task_inputs, "task_id"),
                (schema.tasks, "id"),
            )
        ]
        a = schema.task_artifacts
        self._artifact_keys = database.prepare_rows(
            sa.select(a.c.artifact_key).join(
                batch, sa.and_(a.c.tenant_id == batch.c.tenant_id, a.c.task_id == batch.c.id)
            )
        )
        keys = batch_table(database, {"tenant_id": TEXT, "key": TEXT})
        k = schema.idempotency_keys
        self._purge_keys = database.prepare(
            k.delete().where(
                sa.tuple_(k.c.tenant_id, k.c.key).in_(sa.select(keys.c.tenant_id, keys.c.key))
            )
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

    def purge(self, *, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """Walks each tenant's oldest tasks, so it needs no index on ``finished_at``. A task is not found as long as the
        clock that made its id was ahead of the database's."""
        with self._database.read() as connection:
            tenants = connection.scalars(self._tenants).all()
            rows: list[Any] = []
            for tenant in tenants:
                rows += connection.execute(
                    _purgeable(tenant, finished_before, limit - len(rows))
                ).all()
                if len(rows) >= limit:
                    break
        if not rows:
            return 0, []
        with self._database.write() as tx:
            # Looked at again under the lock: a task may have been redriven since. What a transaction holds in which
            # somebody submits a task that depends on it has time.
            batch = batch_text([(row.tenant_id, row.id) for row in rows])
            states = _by_key(tx.rows(self._states_unlocked, batch=batch))
            rows = [
                row
                for row in rows
                if (state := states.get(TaskKey(row.tenant_id, row.id))) is not None
                and state.finished_at == row.finished_at
            ]
            batch = batch_text([(row.tenant_id, row.id) for row in rows])
            payloads = [key for (key,) in tx.rows(self._artifact_keys, batch=batch)]
            for statement in self._purge:
                tx.run(statement, batch=batch)
            if keyed := [
                (row.tenant_id, row.idempotency_key)
                for row in rows
                if row.idempotency_key is not None
            ]:
                tx.run(self._purge_keys, batch=batch_text(keyed))
            self._journal.tally(
                tx,
                [
                    Tally(r.tenant_id, r.finished_at, r.task, r.status, r.duration_ms or 0.0, -1)
                    for r in rows
                ],
            )
        payloads += [
            key for row in rows for key in (row.input_key, row.result_key) if key is not None
        ]
        return len(rows), payloads

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


def _purgeable(tenant_id: str, finished_before: int, limit: int) -> sa.Select[Any]:
    t, i, r = schema.tasks, schema.task_inputs, schema.task_results
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.status,
            t.c.finished_at,
            t.c.duration_ms,
            i.c.idempotency_key,
            i.c.input_key,
            r.c.result_key,
        )
        .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        .join(r, sa.and_(r.c.tenant_id == t.c.tenant_id, r.c.task_id == t.c.id), isouter=True)
        .where(
            t.c.tenant_id == tenant_id,
            # Nothing finished before it was created: this ends the walk, and nearly always before its first step.
            t.c.id < first_id(finished_before // 1_000),
            t.c.finished_at < finished_before,
        )
        .order_by(t.c.id)
        .limit(limit)
    )
