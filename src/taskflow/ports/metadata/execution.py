"""Claiming tasks, and writing down how their attempts ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata.keys import OutboxEntry, TaskKey


class ClaimedTask(NamedTuple):
    """A task whose next attempt this worker has started. ``arguments`` is JSON text, or None with ``input_key``."""

    tenant_id: str
    task_id: str
    task: str
    priority: int
    attempt: int
    failure_count: int
    crash_count: int
    max_retries: int
    timeout_seconds: float
    expires_at: int | None
    created_at: int
    run_at: int
    started_at: int
    arguments: str | None
    input_key: str | None
    metadata: str | None
    request_id: str | None
    traceparent: str | None
    lease_token: int


class Unclaimed(NamedTuple):
    """A delivery that started nothing. ``retry_in_seconds`` None: forget the message (finished, unknown, or owned
    by a live worker whose own message or lease will bring it back); otherwise it is early, hide it that long.
    ``is_known``: whether this store has such a task."""

    key: TaskKey
    retry_in_seconds: float | None
    is_known: bool = True


class ClaimResult(NamedTuple):
    tasks: list[ClaimedTask]
    unclaimed: list[Unclaimed]


class Outcome(NamedTuple):
    """How an attempt ended. ``status``: completed, failed, retrying, cancelled, or pending (given back unstarted or
    by a worker that stops). JSON is text; ``error`` a `TaskError` as JSON; ``retry_delay_seconds`` with retrying."""

    tenant_id: str
    task_id: str
    lease_token: int
    status: TaskStatus
    attempt: int
    duration_ms: float
    result: str | None = None
    result_key: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    retry_delay_seconds: float = 0.0
    counts_failure: bool = False
    counts_crash: bool = False


class FinishResult(NamedTuple):
    """``fenced``: outcomes that were not written, their lease had been lost. ``to_send``: retries and tasks whose
    dependencies completed. ``ended``: every task that became final, dependents included. ``locked``: outcomes that were
    not written, because somebody else's transaction holds their task at that moment, or one that would fail with it;
    to be given again."""

    fenced: list[Outcome]
    to_send: list[OutboxEntry]
    ended: list[TaskKey]
    locked: list[Outcome]


class Lease(NamedTuple):
    tenant_id: str
    task_id: str
    lease_token: int
    progress: float | None = None
    progress_message: str | None = None


class HeartbeatResult(NamedTuple):
    cancel_requested: list[TaskKey]
    lost: list[TaskKey]


class LostTask(NamedTuple):
    """A running task whose lease has run out, or whose worker is known to be dead."""

    tenant_id: str
    task_id: str
    task: str
    worker_id: str
    lease_token: int
    lease_until: int
    attempt: int
    failure_count: int
    crash_count: int
    max_retries: int
    expires_at: int | None
    cancel_requested: bool


class ExpireResult(NamedTuple):
    """``expired``: tasks past their deadline. ``failed``: those that depended on them, which never can run now."""

    expired: list[TaskKey]
    failed: list[TaskKey]


class ExecutionStore(Protocol):
    """What a worker needs: start, keep, finish."""

    def claim(
        self,
        keys: Sequence[TaskKey],
        *,
        worker_id: str,
        lease_seconds: float,
        most_suspects: int | None = None,
    ) -> ClaimResult:
        """Start the next attempt of every task that is claimable, due and not expired, in one statement.

        Each returned task carries a fresh lease token, valid for ``lease_seconds`` of database time. A task past its
        ``expires_at`` is left to `expire`. Repeated keys are claimed once. Of tasks that were running when a worker
        died only the first ``most_suspects`` (None: all) are claimed, the others are to come back shortly.
        """
        ...

    def finish(
        self, outcomes: Sequence[Outcome], *, max_queue_delay_seconds: float, outbox: bool
    ) -> FinishResult:
        """Write outcomes, results, events and follow-ups where ``lease_token`` still matches (``outbox`` as in insert).
        Waits for nobody who holds one of these tasks, or one that fails with them.

        Completed: tasks that waited only for this become pending. Failed, cancelled: tasks that depend on it fail with
        DependencyFailedError, and theirs in turn.
        """
        ...

    def heartbeat(self, leases: Sequence[Lease], *, lease_seconds: float) -> HeartbeatResult:
        """Extend these leases, write progress (with an event where it changed), bring back cancellation requests."""
        ...

    def expire(self, *, limit: int) -> ExpireResult:
        """End up to ``limit`` waiting tasks past their ``expires_at``, and fail what depends on them; but for those of
        which somebody else's transaction holds any at that moment."""
        ...

    def lost(self, *, dead_workers: Sequence[str], limit: int) -> list[LostTask]:
        """Running tasks with an expired lease, or claimed by one of ``dead_workers``."""
        ...
