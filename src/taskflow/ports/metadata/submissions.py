"""Accepting tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from taskflow.core.errors import TaskFlowError
from taskflow.core.submission import Accepted, NewTask
from taskflow.ports.metadata.execution import ClaimedTask
from taskflow.ports.metadata.keys import OutboxEntry, TaskKey


class StartNow(NamedTuple):
    """Tasks that a worker claims in the transaction that stores them, if they may start."""

    keys: Sequence[TaskKey]
    worker_id: str
    lease_seconds: float


class InsertResult(NamedTuple):
    """``answers[i]`` belongs to ``tasks[i]``: what was accepted or replayed, or why not. ``ended``: tasks that were
    final from the start, because a task they depend on had failed. ``started``: those of `StartNow` that were claimed;
    they have no message, neither in ``to_send`` nor in the outbox."""

    answers: list[Accepted | TaskFlowError]
    to_send: list[OutboxEntry]
    ended: list[TaskKey]
    started: list[ClaimedTask]


class SubmissionStore(Protocol):
    """Where accepted tasks are written."""

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        max_waiting: int,
        max_queue_delay_seconds: float,
        outbox: bool,
        start: StartNow | None = None,
    ) -> InsertResult:
        """Store all that can be, in one transaction, and return the messages to send now.

        Refused one by one: IdempotencyConflictError, QueueFullError once ``max_waiting`` tasks (0: no limit) are not
        running and not final, UnknownDependencyError. Tasks may depend on others of the same
        call. A dependency that has already failed fails the new task at once. With ``outbox`` every message gets an
        outbox row; without, only those due later than ``max_queue_delay_seconds`` do (and are not returned). What
        ``start`` names (of these tasks, and without ``outbox``) is running at once.

        What became of a commit that got no answer is found out: CommitUnknownError means that the store stayed away.
        StoreLockedError: a transaction that may take its time has a key of one of these; others need not wait for it.
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
