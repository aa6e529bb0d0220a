"""Dead letters: failed tasks that wait for a person, one by one or by the error they share."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from taskflow.core.errors import InvalidRequestError
from taskflow.core.ids import is_uuid
from taskflow.core.submission import MAX_DELAY_SECONDS
from taskflow.core.task import Task
from taskflow.ports.metadata import FailureGroup, TaskFilter, TaskKey, TaskStore
from taskflow.services.payloads import Payloads
from taskflow.services.sending import Sending
from taskflow.services.tasks import Tasks, check_limit

_CHUNK = 500


class DeadLetters:
    """Thread safe; every method is scoped to one tenant."""

    def __init__(
        self, store: TaskStore, tasks: Tasks, *, payloads: Payloads, sending: Sending
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._payloads = payloads
        self._sending = sending

    def list(
        self,
        tenant_id: str,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        limit: int,
        cursor: str | None,
    ) -> tuple[builtins.list[Task], str | None]:
        """Newest first, with the cursor of the next page."""
        where = TaskFilter(task=task, fingerprint=fingerprint, dead_letters=True)
        return self._tasks.list(tenant_id, where, limit=limit, cursor=cursor)

    def groups(self, tenant_id: str, *, limit: int = 100) -> builtins.list[FailureGroup]:
        """Failures of the same task with the same error, the largest group first."""
        check_limit(limit)
        return self._store.failure_groups(tenant_id, limit=limit)

    def redrive(
        self,
        tenant_id: str,
        *,
        task_ids: Sequence[str] = (),
        task: str | None = None,
        fingerprint: str | None = None,
        rate_per_second: float | None = None,
        limit: int = 10_000,
        request_id: str | None = None,
    ) -> int:
        """Run dead letters anew: these ids, or up to ``limit`` that match. Returns how many.

        With ``rate_per_second`` they start spread over time, so that what failed is not overrun again.
        """
        keys = self._choose(tenant_id, task_ids, task, fingerprint, limit)
        if rate_per_second is not None:
            _check_rate(rate_per_second, len(keys))
        count = 0
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            delays = [
                (start + i) / rate_per_second if rate_per_second else 0.0 for i in range(len(chunk))
            ]
            result = self._store.redrive(
                chunk,
                delay_seconds=delays,
                max_queue_delay_seconds=self._sending.max_delay_seconds,
                outbox=self._sending.needs_rows,
                request_id=request_id,
            )
            self._sending.send(result.to_send)
            self._payloads.forget(result.payloads)
            count += len(result.redriven)
        return count

    def discard(
        self,
        tenant_id: str,
        *,
        task_ids: Sequence[str] = (),
        task: str | None = None,
        fingerprint: str | None = None,
        limit: int = 10_000,
        request_id: str | None = None,
    ) -> int:
        """Put dead letters away: they stay failed, but leave the list. Returns how many."""
        keys = self._choose(tenant_id, task_ids, task, fingerprint, limit)
        return sum(
            len(self._store.discard(keys[i : i + _CHUNK], request_id=request_id))
            for i in range(0, len(keys), _CHUNK)
        )

    def _choose(
        self,
        tenant_id: str,
        task_ids: Sequence[str],
        task: str | None,
        fingerprint: str | None,
        limit: int,
    ) -> builtins.list[TaskKey]:
        where = TaskFilter(task=task, fingerprint=fingerprint, dead_letters=True)
        if task_ids:
            wanted = [task_id for task_id in dict.fromkeys(task_ids) if is_uuid(task_id)]
            return self._store.dead_letter_keys(
                tenant_id, where, task_ids=wanted, limit=len(wanted)
            )
        return self._store.dead_letter_keys(tenant_id, where, task_ids=None, limit=limit)


def _check_rate(per_second: float, count: int) -> None:
    """Also refuses a rate at which the last one would start later than any delay may be."""
    if not per_second > 0 or count / per_second > MAX_DELAY_SECONDS:
        raise InvalidRequestError(
            "rate_per_second must be above 0, and not so low that the last starts in ten years",
            fields=[{"field": "rate_per_second", "message": "must be above 0"}],
        )
