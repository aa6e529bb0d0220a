"""The metadata store, one Protocol per reader. It is the truth about every task.

All moments are Unix microseconds of *database* time. Every method is one transaction; all raise StoreUnavailableError
(nothing was written; safe to repeat). Contract: tests/contract/metadata, on SQLite and PostgreSQL.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from taskflow.core.errors import TaskFlowError
from taskflow.core.events import Event
from taskflow.core.submission import Accepted, NewTask
from taskflow.core.task import Task, TaskStatus
from taskflow.ports.queue import Message


class TaskKey(NamedTuple):
    tenant_id: str
    task_id: str


class OutboxEntry(NamedTuple):
    """A message to send, and the outbox row to delete once it is sent (None: it needs none)."""

    message: Message
    entry_id: str | None


class InsertResult(NamedTuple):
    """``answers[i]`` belongs to ``tasks[i]``: what was accepted or replayed, or why not. ``ended``: tasks that were
    final from the start, because a task they depend on had failed."""

    answers: list[Accepted | TaskFlowError]
    to_send: list[OutboxEntry]
    ended: list[TaskKey]


class SubmissionStore(Protocol):
    """Where accepted tasks are written."""

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        max_waiting: int,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> InsertResult:
        """Store all that can be, in one transaction, and return the messages to send now.

        Refused one by one: IdempotencyConflictError, QueueFullError once ``max_waiting`` tasks (0: no limit) are not
        running and not final, UnknownDependencyError. Tasks may depend on others of the same
        call. A dependency that has already failed fails the new task at once. With ``outbox`` every message gets an
        outbox row; without, only those due later than ``max_queue_delay_seconds`` do (and are not returned).

        What became of a commit that got no answer is found out: CommitUnknownError means that the store stayed away.
        """
        ...

    def insert_within(
        self, connection: object, tasks: Sequence[NewTask], *, max_waiting: int
    ) -> InsertResult:
        """`insert` in the caller's own open transaction: the tasks exist exactly if that commits. Every message waits
        in the outbox for the relay; ``to_send`` has to be left alone.

        Raises InvalidRequestError when ``connection`` cannot be joined; nothing was written then.
        """
        ...


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
    by a live worker whose own message or lease will bring it back); otherwise it is early, hide it that long."""

    key: TaskKey
    retry_in_seconds: float | None


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
    dependencies completed. ``ended``: every task that became final, dependents included."""

    fenced: list[TaskKey]
    to_send: list[OutboxEntry]
    ended: list[TaskKey]


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

        Completed: tasks that waited only for this become pending. Failed, cancelled: tasks that depend on it fail with
        DependencyFailedError, and theirs in turn.
        """
        ...

    def heartbeat(self, leases: Sequence[Lease], *, lease_seconds: float) -> HeartbeatResult:
        """Extend these leases, write progress (with an event where it changed), bring back cancellation requests."""
        ...

    def expire(self, *, limit: int) -> list[TaskKey]:
        """End waiting tasks past their ``expires_at``; returns all that became final, dependents included."""
        ...

    def lost(self, *, dead_workers: Sequence[str], limit: int) -> list[LostTask]:
        """Running tasks with an expired lease, or claimed by one of ``dead_workers``."""
        ...


class OutboxStore(Protocol):
    """Messages that must still be sent."""

    def lease(
        self, *, lookahead_seconds: float, lease_seconds: float, limit: int
    ) -> list[OutboxEntry]:
        """Entries due within ``lookahead_seconds``, reserved for this caller; delays are relative to now.

        Several relays may call at once: none gets what another holds (`SKIP LOCKED` on PostgreSQL).
        """
        ...

    def release(self, entry_ids: Sequence[str]) -> None:
        """End the lease of entries that could not be sent: anybody may try again."""
        ...

    def delete(self, entry_ids: Sequence[str]) -> None: ...

    def add(self, messages: Sequence[Message]) -> None:
        """Rows due after each message's delay, for messages that the queue did not accept."""
        ...

    def next_due_seconds(self) -> float | None:
        """Until the earliest entry is due (0 or less: now); None when the outbox is empty."""
        ...

    def due(self, *, limit: int) -> list[Message]:
        """Claimable tasks that are due, most urgent first: up to ``limit`` pending ones, and as many others."""
        ...

    def waiting(self, *, within_seconds: float, batch: int) -> Iterator[list[Message]]:
        """Claimable tasks due within ``within_seconds``, most urgent first: what a queue that is not durable is rebuilt
        from. So are later ones that have no outbox row, with ``within_seconds`` as delay: nothing else knows of them.
        Streams from one snapshot in lists of up to ``batch``."""
        ...


class ResendStore(Protocol):
    """What a durable queue may have forgotten."""

    def resend(self, *, silent_seconds: float, limit: int) -> int:
        """Outbox rows for claimable tasks that have been due for ``silent_seconds``, have none, and of which nothing
        was written down in that time; `task.resent` in their history. How many. Any number of processes may call.
        """
        ...


class TaskFilter(NamedTuple):
    """None: any. ``q`` is looked for in id, task and name; ``created_*`` are Unix microseconds."""

    statuses: frozenset[TaskStatus] | None = None
    task: str | None = None
    priority: int | None = None
    tag: str | None = None
    created_after: int | None = None
    created_before: int | None = None
    q: str | None = None
    fingerprint: str | None = None
    dead_letters: bool = False
    """Only failed tasks that nobody has discarded."""


class TaskStore(Protocol):
    """What people ask about tasks, and do to them by hand. Large payloads come back as keys (`PayloadKeys`)."""

    def get(self, tenant_id: str, task_ids: Sequence[str]) -> builtins.list[StoredTask]:
        """In no particular order; unknown ids, and those of other tenants, are left out."""
        ...

    def final(self, keys: Sequence[TaskKey]) -> dict[TaskKey, bool]:
        """Whether each is final; unknown keys are left out. Cheap: asked by everyone who waits."""
        ...

    def list(
        self, tenant_id: str, where: TaskFilter, *, limit: int, before: str | None
    ) -> builtins.list[StoredTask]:
        """Newest first; ``before`` is the last id of the previous page."""
        ...

    def events(
        self, tenant_id: str, task_id: str, *, after: int, limit: int
    ) -> builtins.list[Event]: ...

    def cancel(self, keys: Sequence[TaskKey]) -> CancelResult:
        """Waiting tasks become cancelled (their dependents fail), running ones are marked for their worker."""
        ...

    def redrive(
        self,
        keys: Sequence[TaskKey],
        *,
        delay_seconds: Sequence[float],
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> RedriveResult:
        """Run final tasks anew, ``delay_seconds[i]`` from now, with all their retries; tasks that failed only because
        they depend on one of them wait for it again. Tasks that are not final are left alone."""
        ...

    def dead_letter_keys(
        self, tenant_id: str, where: TaskFilter, *, task_ids: Sequence[str] | None, limit: int
    ) -> builtins.list[TaskKey]:
        """Dead letters that match, oldest first; of ``task_ids`` if given."""
        ...

    def discard(self, keys: Sequence[TaskKey]) -> builtins.list[TaskKey]:
        """Put dead letters away: they leave the dead-letter list but stay failed. Returns those that were there."""
        ...

    def failure_groups(self, tenant_id: str, *, limit: int) -> builtins.list[FailureGroup]: ...

    def purge(self, *, finished_before: int, limit: int) -> tuple[int, builtins.list[str]]:
        """Delete final tasks with all that belongs to them; returns how many and the payload keys to delete."""
        ...


class CancelResult(NamedTuple):
    """``before``: status before the call, None for unknown tasks. ``ended``: tasks that became final by it."""

    before: dict[TaskKey, TaskStatus | None]
    ended: list[TaskKey]


class RedriveResult(NamedTuple):
    """``before``: status before the call, None for unknown tasks. ``redriven``: what runs anew, or waits again for one
    that does. ``payloads``: keys of results that no row refers to any more."""

    before: dict[TaskKey, TaskStatus | None]
    redriven: list[TaskKey]
    to_send: list[OutboxEntry]
    payloads: list[str]


class StoredTask(NamedTuple):
    """A task record; ``input_key`` / ``result_key`` tell that arguments / result are in the payload store."""

    task: Task
    input_key: str | None
    result_key: str | None


class FailureGroup(NamedTuple):
    fingerprint: str
    task: str
    error_type: str
    message: str
    count: int  # type: ignore[assignment] # a column, not tuple's method
    first_at: int
    last_at: int
    sample_task_id: str


class NewArtifact(NamedTuple):
    """A file that an attempt has put into the payload store, as ``artifact_key``."""

    tenant_id: str
    task_id: str
    lease_token: int
    attempt: int
    name: str
    artifact_key: str
    size_bytes: int
    content_type: str


class StoredArtifact(NamedTuple):
    name: str
    artifact_key: str
    size_bytes: int
    content_type: str
    attempt: int
    created_at: int


class ArtifactStore(Protocol):
    """Which artifacts a task has. They go with the task (`TaskStore.purge`)."""

    def add(
        self, artifacts: Sequence[NewArtifact], *, most: int
    ) -> builtins.list[str | TaskFlowError | None]:
        """Write each under its name, in place of what was there, while its attempt holds the lease.

        Answers in order: the key of what was replaced (None: nothing was), LeaseLostError, or InvalidRequestError for
        one more than ``most`` of a task.
        """
        ...

    def list(self, key: TaskKey) -> builtins.list[StoredArtifact] | None:
        """By name; None when there is no such task."""
        ...


class WorkerRecord(NamedTuple):
    worker_id: str
    hostname: str
    pid: int
    started_at: int
    seen_at: int
    status: str  # running, draining, stopped
    details: Mapping[str, Any]


class WorkerStore(Protocol):
    """Who is working. For people and for recovery, never for deciding ownership."""

    def report(self, record: WorkerRecord) -> None:
        """Insert or update; ``seen_at`` and ``started_at`` are set by the store."""
        ...

    def list(self) -> list[WorkerRecord]: ...

    def forget(self, worker_ids: Sequence[str]) -> None: ...


class TaskCounts(NamedTuple):
    """By status, and by priority among those not final; durations in ms over finished attempts of the last 24 h."""

    by_status: Mapping[str, int]
    active_by_priority: Mapping[int, int]
    oldest_waiting_seconds: float | None
    mean_duration_ms: float | None


class Backlog(NamedTuple):
    """How late the system is. ``overdue_messages``: in the outbox although they are due, and for how long the oldest
    of them; ``oldest_waiting_seconds``: of the task that has been due longest, for every priority, 0 without one."""

    overdue_messages: int
    overdue_seconds: float
    oldest_waiting_seconds: Mapping[int, float]


class InsightStore(Protocol):
    """Numbers for metrics and dashboards."""

    def backlog(self, *, most: int) -> Backlog:
        """Of all tenants. Cheap, however much waits: messages are counted up to ``most``."""
        ...

    def counts(self, tenant_id: str | None) -> TaskCounts:
        """Of one tenant, or of all."""
        ...

    def fold(self, *, ended_before: int) -> int:
        """Keep of what ended before then the totals only, no longer by the hour; how many rows went in."""
        ...


class MaintenanceStore(Protocol):
    """Whole-store operations: migration, backup, checks."""

    def ping(self) -> None:
        """Raises StoreUnavailableError when the store cannot be read *and* written."""
        ...

    def export(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every row as (table, columns), from one consistent snapshot, parents before children."""
        ...

    def import_rows(self, rows: Iterator[tuple[str, Mapping[str, Any]]]) -> int:
        """Replace the whole content in one transaction; returns the number of rows. Raises BackupInvalidError."""
        ...
