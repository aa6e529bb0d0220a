"""Claiming: the next attempt of every task of a batch that may start, and why the others may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from taskflow.adapters.metadata import execution_statements as statements
from taskflow.adapters.metadata.batch import batch_text
from taskflow.adapters.metadata.certainty import until_known
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.jsontext import dumps
from taskflow.core.task import CLAIMABLE, TaskStatus
from taskflow.ports.metadata import ClaimedTask, ClaimResult, TaskKey, Unclaimed

_MICROSECONDS = 1_000_000
# A message that is early by less is as good as due: hide it this long at least.
_CLOCK_SLACK_SECONDS = 0.001
_LOCKED_WAIT_SECONDS = 0.1  # others hold a row for a transaction, mostly one that claims it, too
_SUSPECT_WAIT_SECONDS = 0.25
_SUSPECT_SPREAD_SECONDS = 0.02  # so that many of them do not come back all at once
_NOT_YET_DUE = CLAIMABLE - {TaskStatus.PENDING}


class _TooManySuspectsError(Exception):
    """Takes back a claim. ``keys``: those to be left out of the next one."""

    def __init__(self, keys: Sequence[TaskKey]) -> None:
        super().__init__()
        self.keys = keys


class SqlClaims:
    """The part of `SqlExecution` that starts attempts."""

    def __init__(self, database: Database, new_token: Callable[[], int]) -> None:
        self._database = database
        self._new_token = new_token
        if database.is_sqlite:
            self._claim = database.prepare(statements.claim(database))
            self._started_events = database.prepare(statements.started_events(database))
        else:
            self._claim_at_once = database.prepare_rows(statements.claim_at_once(database))
        self._claimed = database.prepare_rows(statements.claimed(database))
        self._state = database.prepare_rows(statements.state(database))

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

        def write(tx: Transaction) -> ClaimResult:
            return self._claim_in(tx, keys, batch, worker_id, lease_seconds, most_suspects)

        def happened(tx: Transaction, result: ClaimResult) -> bool:
            started = result.tasks
            return not started or bool(
                tx.rows(self._claimed, batch=batch, token=started[0].lease_token)
            )

        # A claim that a power cut undoes leaves a task that waits: no harm, and one wait for the disk less.
        return until_known(self._database, write, happened, durable=False, patient=True)

    def _claim_in(
        self,
        tx: Transaction,
        keys: Sequence[TaskKey],
        batch: str,
        worker_id: str,
        lease_seconds: float,
        most_suspects: int | None,
    ) -> ClaimResult:
        token = self._new_token()
        claimed: dict[TaskKey, ClaimedTask] = {}
        now = tx.now
        until = now + int(lease_seconds * _MICROSECONDS)
        lease: dict[str, Any] = {
            "now": now,
            "token": token,
            "until": until,
            "worker_id": worker_id,
        }
        worker = dumps(worker_id)
        rows: list[Sequence[Any]] = []
        if not self._database.is_sqlite:
            rows = tx.rows(self._claim_at_once, batch=batch, worker=worker, **lease)
        elif tx.run(self._claim, batch=batch, **lease):
            tx.run(self._started_events, batch=batch, now=now, token=token, worker=worker)
            rows = tx.rows(self._claimed, batch=batch, token=token)
        if rows:
            for row in rows:
                task = ClaimedTask._make((*row, token))
                claimed[TaskKey(task.tenant_id, task.task_id)] = task
            if most_suspects is not None:
                suspects = [k for k in keys if k in claimed and claimed[k].crash_count]
                if len(suspects) > most_suspects:
                    raise _TooManySuspectsError(suspects[most_suspects:])  # undoes it all
        missing = [key for key in keys if key not in claimed]
        unclaimed = self._explain(tx, missing) if missing else []
        return ClaimResult([claimed[key] for key in keys if key in claimed], unclaimed)

    def _explain(self, tx: Transaction, keys: Sequence[TaskKey]) -> list[Unclaimed]:
        """Why nothing was started: early, or locked by somebody else at that moment (come back then), or finished,
        owned, expired, unknown (forget it)."""
        waits: dict[TaskKey, float] = {}
        known: set[TaskKey] = set()
        for tenant_id, task_id, status, run_at, expires_at in tx.rows(
            self._state, batch=batch_text(keys)
        ):
            known.add(TaskKey(tenant_id, task_id))
            if status in _NOT_YET_DUE and run_at > tx.now:
                wait = (run_at - tx.now) / _MICROSECONDS
                waits[TaskKey(tenant_id, task_id)] = max(wait, _CLOCK_SLACK_SECONDS)
            elif status in CLAIMABLE and (expires_at is None or expires_at > tx.now):
                waits[TaskKey(tenant_id, task_id)] = _LOCKED_WAIT_SECONDS
        return [Unclaimed(key, waits.get(key), key in known) for key in keys]
