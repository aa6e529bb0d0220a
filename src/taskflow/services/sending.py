"""The fast path of the outbox: sends what a transaction asked for right after it has committed."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow import logs
from taskflow.core.errors import StoreUnavailableError
from taskflow.ports.metadata import OutboxEntry, OutboxStore, TaskKey
from taskflow.ports.queue import EnqueueFailure, Message, TaskQueue

log = logs.get_logger(__name__)


class Sending:
    """Never raises: what could not be sent stays, or is put, in the outbox, and the relay tries again."""

    def __init__(self, queue: TaskQueue, outbox: OutboxStore) -> None:
        self._queue = queue
        self._outbox = outbox

    @property
    def needs_rows(self) -> bool:
        """Whether every message needs an outbox row, because the queue is not rebuilt from the store."""
        return self._queue.durable

    @property
    def max_delay_seconds(self) -> float:
        return self._queue.max_delay_seconds

    def send(self, entries: Sequence[OutboxEntry]) -> None:
        if not entries:
            return
        failures = self._enqueue([entry.message for entry in entries])
        failed = {key_of(failure.message) for failure in failures}
        rows = {key_of(e.message): e.entry_id for e in entries if e.entry_id is not None}
        try:
            if failures:
                self._outbox.add([f.message for f in failures if key_of(f.message) not in rows])
            if rows:
                self._outbox.delete([row for key, row in rows.items() if key not in failed])
        except StoreUnavailableError as exc:
            # What was sent is sent once more by the relay; what is missing is found when it looks into the store.
            log.warning("outbox.unavailable", error=exc.detail)

    def _enqueue(self, messages: Sequence[Message]) -> Sequence[EnqueueFailure]:
        try:
            failures = self._queue.enqueue(messages)
        except Exception as exc:  # what has been committed must not look as if it failed
            log.exception("queue.unavailable", count=len(messages))
            return [EnqueueFailure(message, type(exc).__name__) for message in messages]
        if failures:
            log.debug("queue.refused", count=len(failures), reason=failures[0].reason)
        return failures


def key_of(message: Message) -> TaskKey:
    return TaskKey(message.tenant_id, message.task_id)
