"""Ending attempts: one transaction, then everything that must follow it, in the order that loses nothing."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow import logs
from taskflow.ports.metadata import ExecutionStore, FinishResult, Outcome
from taskflow.ports.queue import TaskQueue
from taskflow.services.completions import Completions
from taskflow.services.sending import Sending

log = logs.get_logger(__name__)


class Conclusion:
    """Used by workers for what they ran and by recovery for what dead workers left."""

    def __init__(
        self, store: ExecutionStore, queue: TaskQueue, sending: Sending, completions: Completions
    ) -> None:
        self._store = store
        self._queue = queue
        self._sending = sending
        self._completions = completions

    def commit(self, outcomes: Sequence[Outcome], receipts: Sequence[str] = ()) -> FinishResult:
        """Messages are acknowledged only after the outcomes are durable, and sent only after that: the message of a
        retry must not meet the one that is being acknowledged. Raises StoreUnavailableError; safe to repeat."""
        result = self._store.finish(
            outcomes,
            max_queue_delay_seconds=self._sending.max_delay_seconds,
            outbox=self._sending.needs_rows,
        )
        if receipts:
            self._acknowledge(receipts)
        self._sending.send(result.to_send)
        self._completions.publish(result.ended)
        return result

    def _acknowledge(self, receipts: Sequence[str]) -> None:
        try:
            self._queue.ack(receipts)
        except Exception:  # they come back, and are dropped then; what has been written must not look as if it failed
            log.exception("queue.not_acknowledged", count=len(receipts))
