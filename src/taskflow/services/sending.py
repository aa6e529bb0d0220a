"""The fast path of the outbox: sends what a transaction asked for right after it has committed."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow import logs
from taskflow.core.errors import StoreUnavailableError
from taskflow.ports.metadata import OutboxEntry, OutboxStore
from taskflow.ports.queue import TaskQueue

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
        failures = self._queue.enqueue([entry.message for entry in entries])
        failed = {(failure.message.tenant_id, failure.message.task_id) for failure in failures}
        if failures:
            log.debug("queue.refused", count=len(failures), reason=failures[0].reason)
        try:
            without_row = {
                (e.message.tenant_id, e.message.task_id) for e in entries if e.entry_id is None
            } & failed
            self._outbox.add(
                [
                    f.message
                    for f in failures
                    if (f.message.tenant_id, f.message.task_id) in without_row
                ]
            )
            sent = [e.entry_id for e in entries if e.entry_id is not None]
            if failed:
                sent = [
                    e.entry_id
                    for e in entries
                    if e.entry_id is not None
                    and (e.message.tenant_id, e.message.task_id) not in failed
                ]
            self._outbox.delete(sent)
        except StoreUnavailableError as exc:
            # Rows that were sent are sent once more by the relay; rows that are missing are found by recovery.
            log.warning("outbox.unavailable", error=exc.detail)
