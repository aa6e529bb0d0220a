"""What people ask about tasks, and do to them by hand."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from taskflow.core.events import Event
from taskflow.core.task import Task, TaskStatus
from taskflow.ports.metadata.keys import OutboxEntry, TaskKey


class TaskFilter(NamedTuple):
    """None: any. ``q`` is looked for in id, task and name, whatever its case (beyond ASCII: as far as the locale of the
    database knows it); ``created_*`` are Unix microseconds."""

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
        """Newest first; ``before`` is the last id of the previous page, or what `looked_until` said of it."""
        ...

    def looked_until(self, tenant_id: str, where: TaskFilter, *, before: str | None) -> str | None:
        """How far `list` looked for what no index finds (``q``, ``priority``) if it did not fill its page: the id from
        which the next one goes on; None: to the end. It looks at a stated number of tasks, not at all there are."""
        ...

    def events(
        self, tenant_id: str, task_id: str, *, after: int, limit: int
    ) -> builtins.list[Event]: ...

    def cancel(self, keys: Sequence[TaskKey], *, request_id: str | None = None) -> CancelResult:
        """Waiting tasks become cancelled (their dependents fail), running ones are marked for their worker.
        ``request_id``, here and below: of the HTTP request that asked for it, for the tasks' history.

        Raises StoreLockedError when somebody else's transaction holds one of all these for about a second."""
        ...

    def redrive(
        self,
        keys: Sequence[TaskKey],
        *,
        delay_seconds: Sequence[float],
        max_queue_delay_seconds: float,
        outbox: bool,
        request_id: str | None = None,
    ) -> RedriveResult:
        """Run final tasks anew, ``delay_seconds[i]`` from now, with all their retries; tasks that failed only because
        they depend on one of them wait for it again. What depends on a task that is to run waits for it, unless another
        one it depends on ended without success: then it is run as asked. Tasks that are not final are left alone.

        Raises StoreLockedError when somebody else's transaction holds one of all these for about a second."""
        ...

    def dead_letter_keys(
        self, tenant_id: str, where: TaskFilter, *, task_ids: Sequence[str] | None, limit: int
    ) -> builtins.list[TaskKey]:
        """Dead letters that match, oldest first; of ``task_ids`` if given."""
        ...

    def discard(
        self, keys: Sequence[TaskKey], *, request_id: str | None = None
    ) -> builtins.list[TaskKey]:
        """Put dead letters away: they leave the dead-letter list but stay failed. Returns those that were there."""
        ...

    def failure_groups(self, tenant_id: str, *, limit: int) -> builtins.list[FailureGroup]: ...


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
