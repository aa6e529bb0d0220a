"""ExecutionStore: claim (`claims.py`), finish (`outcomes.py`), heartbeat, expiry. Each serves a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from taskflow.adapters.metadata import execution_statements as statements
from taskflow.adapters.metadata.batch import batch_text
from taskflow.adapters.metadata.claims import SqlClaims
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import Dependents, DependentsLockedError
from taskflow.adapters.metadata.journal import Journal, NewEvent, Tally
from taskflow.adapters.metadata.outcomes import SqlOutcomes
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.task import TaskStatus
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
        self._outcomes = SqlOutcomes(database, journal, dependents)
        self._leases = database.prepare_rows(statements.leases(database))
        self._extend = database.prepare(statements.extend(database))
        expiring = statements.expiring()
        self._any_expiring = database.prepare_rows(expiring)
        self._expiring = database.prepare_rows(
            expiring if database.is_sqlite else expiring.with_for_update(skip_locked=True)
        )
        self._expire = database.prepare(statements.expire(database))
        self._lost = database.prepare_rows(statements.lost(database))

    def finish(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        return self._outcomes.finish(
            outcomes, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
        )

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
        locked: set[TaskKey] = set()  # dependents of these; what is locked itself is passed over
        while True:
            try:
                return self._expire_but(locked, limit)
            except DependentsLockedError as exc:
                locked.update(exc.parents)

    def _expire_but(self, locked: Collection[TaskKey], limit: int) -> ExpireResult:
        with self._database.write() as tx:
            rows = [
                row
                for row in tx.rows(self._expiring, now=tx.now, limit=limit + len(locked))
                if (row[0], row[1]) not in locked
            ][:limit]
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


def _lease_batch(leases: Sequence[Lease]) -> str:
    return batch_text([(lease.tenant_id, lease.task_id) for lease in leases])
