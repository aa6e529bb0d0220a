"""Sends again what has waited so long that a queue is about to forget its message."""

from __future__ import annotations

from collections.abc import Callable

from taskflow import logs
from taskflow.ports.metadata import ResendStore
from taskflow.ports.queue import TaskQueue

log = logs.get_logger(__name__)

_BATCH = 500


class Resending:
    """A queue keeps a message for a few days (SQS: 4), a backlog may last longer, and the store knows who still waits.
    That a task then has two messages for a while does no harm. Any number may run at once, in any number of processes.
    """

    def __init__(self, store: ResendStore, queue: TaskQueue, *, silent_seconds: float) -> None:
        self._store = store
        self._queue = queue
        self._silent_seconds = silent_seconds

    def run_once(
        self, goes_on: Callable[[], bool] = lambda: True, *, silent_seconds: float | None = None
    ) -> int:
        """Returns how many tasks got an outbox row, in batches while ``goes_on``. The relay sends them.

        ``silent_seconds`` if not the usual: for when messages are known to be lost. A queue that is rebuilt from the
        store needs none. Raises StoreUnavailableError, safe to repeat.
        """
        silent = self._silent_seconds if silent_seconds is None else silent_seconds
        total = 0
        while self._queue.durable and goes_on():
            count = self._store.resend(silent_seconds=silent, limit=_BATCH)
            total += count
            if count < _BATCH:
                break
        if total:
            log.warning("tasks.resent", count=total, silent_seconds=silent)
        return total
