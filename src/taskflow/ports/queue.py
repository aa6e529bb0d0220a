"""The task queue. It carries hints: what a task is and whether it may run is decided by the metadata store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from taskflow.core.task import TaskPriority


class Message(NamedTuple):
    """A hint that a task is ready, or will be in ``delay_seconds``.

    ``timeout_seconds`` (of an attempt; 0: unknown) and ``traceparent`` (W3C trace context of the submission) are for
    queues that sort by the one and show the other; both are left out by those that do not.
    """

    task_id: str
    tenant_id: str
    task: str
    priority: int
    delay_seconds: float = 0.0
    timeout_seconds: float = 0.0
    traceparent: str | None = None


class Delivery(NamedTuple):
    """A message handed out. ``receipt`` is valid until the message is acked, nacked or visible again.

    ``traceparent``: where the queue carries it.
    """

    task_id: str
    tenant_id: str
    task: str
    priority: int
    receipt: str
    receive_count: int
    traceparent: str | None = None


class EnqueueFailure(NamedTuple):
    """A message that was not accepted; the outbox keeps it for a later try."""

    message: Message
    reason: str


class Selector(NamedTuple):
    """Which messages a worker takes: of these priorities and tasks (None: any), except of the excluded tasks.

    Excluded are tasks whose circuit breaker is open or whose resources are in use: they stay in the queue.
    """

    priorities: frozenset[int] | None = None
    tasks: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()

    def accepts(self, task: str) -> bool:
        return task not in self.excluded and (self.tasks is None or task in self.tasks)


ANYTHING = Selector()


class QueueDepth(NamedTuple):
    ready: int
    delayed: int
    in_flight: int


class TaskQueue(Protocol):
    """Hands out task ids at least once, in best-effort priority order. Thread safe. Contract: tests/contract/queue.

    Order: lower priority number first; first-in first-out within a priority and tenant, tenants in turn within a
    priority; while several priorities wait, none of them is passed over for ever (see the adapter for its bound).
    """

    max_delay_seconds: float
    """Longest delay `enqueue` accepts; longer ones wait in the outbox."""

    durable: bool
    """False: messages are gone after a restart and are rebuilt from the store, so a message needs no outbox row."""

    remote: bool
    """True: `enqueue` and `depths` ask another machine, and take as long as its answer does."""

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Make each message receivable after its delay. Returns those that were not accepted."""
        ...

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """Hide and return up to ``max_messages``; waits up to ``timeout_seconds`` for the first one.

        A returned message becomes visible again after the visibility timeout unless it is acked or extended.
        """
        ...

    def ack(self, receipts: Sequence[str]) -> None:
        """Forget these messages. Unknown or stale receipts are ignored."""
        ...

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        """Keep these messages hidden for ``seconds`` from now. Stale receipts are ignored: the lease decides. Never
        waits: the heartbeat that calls it has leases to extend."""
        ...

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        """Make these messages visible again after ``delay_seconds``. Unknown or stale receipts are ignored."""
        ...

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        """Put messages away that no worker can make sense of, with the reason."""
        ...

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        """Messages by priority; approximate on a distributed queue."""
        ...

    def wake(self) -> None:
        """Make every `dequeue` that waits now return early, with nothing."""
        ...

    def close(self) -> None:
        """Give back what is hidden here; further calls of `dequeue` return nothing."""
        ...


@runtime_checkable
class LocalQueue(TaskQueue, Protocol):
    """A queue in the memory of this process: it knows at once what it has, and whose turn it is."""

    def known(self, tenant_id: str, task_id: str) -> bool:
        """Whether a message of this task waits, is delayed or is handed out."""
        ...

    def hand_through(self, message: Message, selector: Selector) -> Delivery | None:
        """Hand out a message that comes in, without letting it wait, if nothing that waits has to go before it for
        those who take what ``selector`` accepts; None: enqueue it. The delivery is like any other."""
        ...
