"""What the contract tests need of a queue under test, whatever it runs on."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import ANYTHING, Delivery, Message, Selector, TaskQueue

R = TypeVar("R")
LONG_TASK_SECONDS = 60.0


class QueueHarness(Protocol):
    """One empty queue, and what may be expected of it.

    A queue in this process answers at once, in order, and its time is moved by hand. One far away answers after a
    while, in an order of its own, and its time is everybody's.
    """

    queue: TaskQueue
    visibility_timeout_seconds: float
    delay_seconds: float
    """A delay that a test can wait for; twice as long as it, and half, are good as well."""

    is_ordered: bool
    """Whether order is promised, or only that nothing is lost."""

    volume: int
    """Messages that one thread may send in a test."""

    rounds: int
    """How often a race is run."""

    def pass_time(self, seconds: float) -> None:
        """Let ``seconds`` pass, if that costs nothing; else it must not matter whether they did."""
        ...

    def now(self) -> float:
        """Seconds of the queue's time."""
        ...

    def take(
        self, count: int = 1, *, most: int = 10, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """What can be had, up to ``most``. Waits, if the queue is far away, until there are ``count``."""
        ...

    def nothing(self, selector: Selector = ANYTHING) -> bool:
        """Whether there is nothing to be had, now and in a moment."""
        ...

    def take_from(self, moment: float, count: int = 1) -> list[Delivery]:
        """What can be had from ``moment`` on, of `now`. Raises AssertionError if something can be had before."""
        ...

    def eventually(self, is_so: Callable[[], bool]) -> None:
        """Return when it is, at once or in a while. Raises AssertionError if it never is."""
        ...

    def close(self) -> None: ...


def message(
    task_id: str,
    *,
    tenant_id: str = "default",
    task: str = "echo",
    priority: int = TaskPriority.NORMAL,
    delay_seconds: float = 0.0,
) -> Message:
    # Short and long tasks by turns: a queue that keeps them apart must behave as if it did not.
    timeout_seconds = 2 * LONG_TASK_SECONDS * (zlib.crc32(task_id.encode()) % 2)
    return Message(task_id, tenant_id, task, int(priority), delay_seconds, timeout_seconds)


def messages(*task_ids: str, tenant_id: str = "default", task: str = "echo") -> list[Message]:
    return [message(task_id, tenant_id=tenant_id, task=task) for task_id in task_ids]


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.task_id for delivery in deliveries]


def take(
    queue: TaskQueue, max_messages: int = 10, *, selector: Selector = ANYTHING
) -> list[Delivery]:
    """What a queue in this process has at once."""
    return queue.dequeue(max_messages=max_messages, timeout_seconds=0, selector=selector)


def drain(queue: TaskQueue, *, selector: Selector = ANYTHING) -> list[str]:
    """Ids of all that a queue in this process has at once, one by one, acked."""
    found: list[str] = []
    while taken := take(queue, 1, selector=selector):
        queue.ack([taken[0].receipt])
        found.append(taken[0].task_id)
    return found


def has_exactly(harness: QueueHarness, *task_ids: str, selector: Selector = ANYTHING) -> bool:
    """Whether just these can be had, one by one, in this order if order is promised. They are acked."""
    found: list[str] = []
    while len(found) < len(task_ids):
        taken = harness.take(most=1, selector=selector)
        harness.queue.ack([delivery.receipt for delivery in taken])
        found += ids(taken)
        if not taken:
            break
    if not harness.is_ordered:
        found, task_ids = sorted(found), tuple(sorted(task_ids))
    assert (found, harness.nothing(selector)) == (list(task_ids), True)
    return True


class Call(Generic[R]):
    """A function running in a thread of its own."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self._result: list[R] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, timeout_seconds: float = 30.0) -> R:
        """Raises what the function raised, or AssertionError if it is still running."""
        self._thread.join(timeout_seconds)
        assert not self._thread.is_alive(), "still running"
        if self._error is not None:
            raise self._error
        return self._result[0]

    def result_while(self, nudge: Callable[[], None]) -> R:
        """Repeat ``nudge`` until the function returns: for calls that must have begun to wait before it counts."""
        for _ in range(3_000):
            if not self._thread.is_alive():
                break
            nudge()
            self._thread.join(0.01)
        return self.result(0)

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as exc:
            self._error = exc
