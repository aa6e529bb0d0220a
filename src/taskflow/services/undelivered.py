"""Messages that the queue has given up: received again and again, and never acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow import logs
from taskflow.core.errors import WorkerCrashedError
from taskflow.ports.queue import Delivery
from taskflow.services.execution import Execution

log = logs.get_logger(__name__)


class Undelivered:
    """The message was a hint, its task may still wait, and nothing else may bring it back: it is run again, as after
    the death of a worker, and dead-lettered when that has happened as often as a worker's death may."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def take_over(self, deliveries: Sequence[Delivery]) -> int:
        """How many tasks still waited. The messages of others are acked, of early ones hidden until they are due.

        Raises StoreUnavailableError; safe to repeat.
        """
        for delivery in deliveries:
            log.error(
                "message.dead_lettered",
                tenant_id=delivery.tenant_id,
                task_id=delivery.task_id,
                task=delivery.task,
                receive_count=delivery.receive_count,
                reason="received again and again, and never acknowledged",
            )
        attempts = self._execution.start(deliveries)
        crash = WorkerCrashedError(
            "the queue gave up its message: it was received again and again, and no worker got to finish the task"
        )
        # One that somebody else's transaction holds stays claimed: its lease runs out, and that is the same crash.
        self._execution.finish(
            [(attempt, self._execution.failed(attempt, crash, 0.0)) for attempt in attempts]
        )
        return len(attempts)
