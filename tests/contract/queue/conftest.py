"""Every adapter of the queue port, empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.ports.queue import TaskQueue
from taskflow.testing.clock import FakeClock
from tests.contract.queue.harness import QueueHarness


class LocalHarness:
    """The local queue on a clock that stands still unless it is advanced."""

    visibility_timeout_seconds = 30.0

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.queue: TaskQueue = LocalTaskQueue(
            self.clock, visibility_timeout_seconds=self.visibility_timeout_seconds
        )

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


@pytest.fixture(params=["local"])
def harness(request: pytest.FixtureRequest) -> Iterator[QueueHarness]:
    made = {"local": LocalHarness}[request.param]()
    yield made
    made.queue.close()
