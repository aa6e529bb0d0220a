"""The relay: sends what the outbox still holds, and fills a queue without memory from the store."""

from __future__ import annotations

from collections.abc import Callable

from taskflow import logs
from taskflow.ports.metadata import OutboxStore
from taskflow.ports.queue import TaskQueue

log = logs.get_logger(__name__)

_BATCH = 500
_LEASE_SECONDS = 30.0
_FEW = 50  # refused messages of one batch
_POLL_SECONDS = 1.0  # how soon a row that another process wrote is noticed
_MOST_LOOKED_AT = 10_000


class Relay:
    """Any number may run at once, in any number of processes: rows are leased."""

    def __init__(self, outbox: OutboxStore, queue: TaskQueue) -> None:
        self._outbox = outbox
        self._queue = queue

    def run_once(self, goes_on: Callable[[], bool] = lambda: True) -> float:
        """Send what is due within the queue's longest delay, in batches while ``goes_on``. Returns the seconds until it
        should run again."""
        self.drain(goes_on)
        if not self._queue.durable:
            self._look()
        due_in = self._outbox.next_due_seconds()
        wait = 0.0 if due_in is None else due_in - self._queue.max_delay_seconds
        # What is due and still there is held by another relay, or was refused: asking at once would not help.
        return min(_POLL_SECONDS, wait) if wait > 0 else _POLL_SECONDS

    def drain(self, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Send what is due within the queue's longest delay, in batches while ``goes_on``. How many were sent."""
        total = 0
        while goes_on():
            entries = self._outbox.lease(
                lookahead_seconds=self._queue.max_delay_seconds,
                lease_seconds=_LEASE_SECONDS,
                limit=_BATCH,
            )
            if not entries:
                break
            failures = self._queue.enqueue([entry.message for entry in entries])
            failed = {(failure.message.tenant_id, failure.message.task_id) for failure in failures}
            sent = [
                entry.entry_id
                for entry in entries
                if entry.entry_id is not None
                and (entry.message.tenant_id, entry.message.task_id) not in failed
            ]
            self._outbox.delete(sent)
            if 0 < len(failures) <= _FEW:
                # Bad luck, and tried again with the next look. Were it many, a queue would be away, and these would
                # stand in the way of what can be sent to the others: they wait until their lease has ended.
                kept = {entry.entry_id for entry in entries if entry.entry_id is not None}
                self._outbox.release(sorted(kept.difference(sent)))
            total += len(sent)
            log.debug("outbox.relayed", sent=len(sent), refused=len(failed))
            if len(entries) < _BATCH or failures:
                break
        return total

    def _look(self) -> None:
        """Fetch what waits in the store, if little waits here: other processes keep theirs in their own memory, where
        nobody helps them, and may hang, have no worker for them any more, or have lost a message."""
        depths = self._queue.depths().values()
        ready = sum(depth.ready for depth in depths)
        if ready < _BATCH or not any(depth.in_flight for depth in depths):
            # What is ready here may be what no worker here can run: look beyond it.
            self._queue.enqueue(self._outbox.due(limit=min(ready + _BATCH, _MOST_LOOKED_AT)))

    def rebuild(self) -> int:
        """Enqueue every claimable task that is due within the queue's delay; a queue with memory needs none of it.

        Safe at any time: what is queued already is not queued twice, and what is claimed cannot be claimed again.
        """
        if self._queue.durable:
            return 0
        count = 0
        for messages in self._outbox.waiting(
            within_seconds=self._queue.max_delay_seconds, batch=_BATCH
        ):
            self._queue.enqueue(messages)
            count += len(messages)
        if count:
            log.info("queue.rebuilt", messages=count)
        return count
