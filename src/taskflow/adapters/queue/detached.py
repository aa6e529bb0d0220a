"""TaskQueue of a process that submits to a local store and runs no worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Condition, RLock

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import (
    ANYTHING,
    Delivery,
    EnqueueFailure,
    Message,
    QueueDepth,
    Selector,
)

NO_WORKER = "no worker in this process"
_LONGEST_WAIT_SECONDS = 3_600.0  # well below threading.TIMEOUT_MAX


class DetachedQueue:
    """Accepts no message, so that its outbox row stays for the relay of the process that has the worker.

    It calls itself durable because that is what makes services write the row. Thread safe.
    """

    max_delay_seconds = 0.0
    durable = True
    remote = False

    def __init__(self) -> None:
        self._woken = Condition(RLock())  # reentrant: a signal handler may call `wake`
        self._wakes = 0
        self._closed = False

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Returns every message."""
        return [EnqueueFailure(message, NO_WORKER) for message in messages]

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """Returns nothing, after the timeout or once it is woken or closed."""
        with self._woken:
            wakes = self._wakes
            self._woken.wait_for(
                lambda: self._closed or self._wakes != wakes,
                min(timeout_seconds, _LONGEST_WAIT_SECONDS),
            )
        return []

    def ack(self, receipts: Sequence[str]) -> None:
        """There are no receipts."""

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        """There are no receipts."""

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        """There are no receipts."""

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        """There are no receipts."""

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        """Nothing is ever in here."""
        return {priority: QueueDepth(0, 0, 0) for priority in TaskPriority}

    def wake(self) -> None:
        """Make every `dequeue` that waits now return early."""
        with self._woken:
            self._wakes += 1
            self._woken.notify_all()

    def close(self) -> None:
        """Further calls of `dequeue` return at once."""
        with self._woken:
            self._closed = True
            self._woken.notify_all()
