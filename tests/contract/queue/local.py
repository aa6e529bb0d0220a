"""The local queue under the contract."""

from __future__ import annotations

from collections.abc import Callable

from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.ports.queue import ANYTHING, Delivery, Selector, TaskQueue
from taskflow.testing.clock import FakeClock

_MOMENT = 0.25


class LocalHarness:
    """On a clock that stands still unless it is moved."""

    delay_seconds = 10.0
    is_ordered = True
    volume = 250
    rounds = 30

    def __init__(self, *, visibility_timeout_seconds: float) -> None:
        self.visibility_timeout_seconds = visibility_timeout_seconds
        self.clock = FakeClock()
        self.queue: TaskQueue = LocalTaskQueue(
            self.clock, visibility_timeout_seconds=visibility_timeout_seconds
        )

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def now(self) -> float:
        return self.clock.monotonic()

    def take(
        self, count: int = 1, *, most: int = 10, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        return self.queue.dequeue(max_messages=most, timeout_seconds=0, selector=selector)

    def nothing(self, selector: Selector = ANYTHING) -> bool:
        return self.take(selector=selector) == []

    def take_from(self, moment: float, count: int = 1) -> list[Delivery]:
        self.clock.advance(moment - _MOMENT - self.now())
        assert self.nothing()
        self.clock.advance(2 * _MOMENT)
        return self.take(count)

    def eventually(self, is_so: Callable[[], bool]) -> None:
        assert is_so()

    def close(self) -> None:
        self.queue.close()
