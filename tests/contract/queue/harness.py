"""What the contract tests need of a queue under test, whatever it runs on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import ANYTHING, Delivery, Message, Selector, TaskQueue

R = TypeVar("R")


class QueueHarness(Protocol):
    """One empty queue, and a way to let time pass for it."""

    queue: TaskQueue
    visibility_timeout_seconds: float

    def advance(self, seconds: float) -> None:
        """Return when ``seconds`` have passed for the queue."""
        ...


def message(
    task_id: str,
    *,
    tenant_id: str = "default",
    task: str = "echo",
    priority: int = TaskPriority.NORMAL,
    delay_seconds: float = 0.0,
) -> Message:
    return Message(task_id, tenant_id, task, int(priority), delay_seconds)


def messages(*task_ids: str, tenant_id: str = "default", task: str = "echo") -> list[Message]:
    return [message(task_id, tenant_id=tenant_id, task=task) for task_id in task_ids]


def take(
    queue: TaskQueue, max_messages: int = 10, *, selector: Selector = ANYTHING
) -> list[Delivery]:
    """What can be had at once."""
    return queue.dequeue(max_messages=max_messages, timeout_seconds=0, selector=selector)


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.task_id for delivery in deliveries]


def drain(queue: TaskQueue, *, selector: Selector = ANYTHING) -> list[str]:
    """Ids of all that can be had at once, one by one, acked."""
    found: list[str] = []
    while taken := take(queue, 1, selector=selector):
        queue.ack([taken[0].receipt])
        found.append(taken[0].task_id)
    return found


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
