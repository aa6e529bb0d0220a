"""The SQS queue under the contract, on an emulator."""

from __future__ import annotations

import time
from collections.abc import Callable

from taskflow.ports.queue import ANYTHING, Delivery, Selector, TaskQueue
from tests.contract.queue.harness import LONG_TASK_SECONDS
from tests.support import sqs

_MOMENT = 0.3  # in which what can be had comes, on any machine but a stopped one


class SQSHarness:
    """Time is real and cannot be hurried; visibility and delays are whole seconds."""

    delay_seconds = 1.0
    is_ordered = False
    volume = 20
    rounds = 3
    long_task_seconds = 0.0

    def __init__(self, url: str, *, visibility_timeout_seconds: float) -> None:
        self.visibility_timeout_seconds = visibility_timeout_seconds
        self.names = sqs.provisioned(url, long_task_seconds=self.long_task_seconds)
        self.queue: TaskQueue = sqs.queue(
            url,
            self.names,
            visibility_timeout_seconds=visibility_timeout_seconds,
            serves=self.names.queues,
        )

    def pass_time(self, seconds: float) -> None:
        pass

    def now(self) -> float:
        return time.monotonic()

    def take(
        self, count: int = 1, *, most: int = 10, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        return self._take(count, most, selector, sqs.PATIENCE_SECONDS)

    def nothing(self, selector: Selector = ANYTHING) -> bool:
        return self._take(1, 10, selector, _MOMENT) == []

    def take_from(self, moment: float, count: int = 1) -> list[Delivery]:
        deliveries = self.take(count)
        assert self.now() >= moment
        return deliveries

    def eventually(self, is_so: Callable[[], bool]) -> None:
        sqs.until(is_so)

    def close(self) -> None:
        self.queue.close()

    def _take(
        self, count: int, most: int, selector: Selector, patience_seconds: float
    ) -> list[Delivery]:
        found: list[Delivery] = []
        give_up_at = time.monotonic() + patience_seconds
        while len(found) < count and (left := give_up_at - time.monotonic()) > 0:
            found += self.queue.dequeue(
                max_messages=most - len(found), timeout_seconds=left, selector=selector
            )
        return found


class LongSQSHarness(SQSHarness):
    """With queues of their own for long tasks, and a worker that serves both kinds."""

    long_task_seconds = LONG_TASK_SECONDS
