"""Messages that no worker could make sense of. Nothing is lost with them: the store has the task, or knows none."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from taskflow.logs import get_logger
from taskflow.ports.queue import Delivery

KEPT = 1_000

log = get_logger(__name__)


class DeadLetter(NamedTuple):
    """A message that was put away, and why."""

    delivery: Delivery
    reason: str


class DeadLetters:
    """The newest `KEPT` of them, for people to look at. Thread safe. ``total`` counts all there were."""

    def __init__(self) -> None:
        self.total = 0
        self._newest: deque[DeadLetter] = deque(maxlen=KEPT)

    def add(self, deliveries: Sequence[Delivery], reason: str) -> None:
        """Keep, count and log them."""
        self._newest.extend(DeadLetter(delivery, reason) for delivery in deliveries)
        self.total += len(deliveries)
        for delivery in deliveries:
            log.error(
                "message.dead_lettered",
                tenant_id=delivery.tenant_id,
                task_id=delivery.task_id,
                task=delivery.task,
                receive_count=delivery.receive_count,
                reason=reason,
            )

    def newest(self) -> list[DeadLetter]:
        """Oldest first."""
        return list(self._newest)
