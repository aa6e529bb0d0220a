"""Deletes what has been final for longer than it is to be kept."""

from __future__ import annotations

from collections.abc import Callable

from taskflow import logs
from taskflow.ports.metadata import TaskStore
from taskflow.services.payloads import Payloads

log = logs.get_logger(__name__)

_BATCH = 500  # small transactions: retention must never hold up the work
_DAY_US = 86_400 * 1_000_000


class Retention:
    """Safe to run in any number of processes at once."""

    def __init__(
        self, store: TaskStore, payloads: Payloads, *, now_us: Callable[[], int], keep_days: float
    ) -> None:
        self._store = store
        self._payloads = payloads
        self._now_us = now_us
        self._keep_days = keep_days

    def run_once(self) -> int:
        """Returns how many tasks were deleted. ``keep_days`` 0 keeps everything.

        Rows go before their payloads: after a crash between the two, `taskflow doctor` finds payloads without a row,
        never a row without its payload.
        """
        if not self._keep_days:
            return 0
        before = self._now_us() - int(self._keep_days * _DAY_US)
        total = 0
        while True:
            count, keys = self._store.purge(finished_before=before, limit=_BATCH)
            self._payloads.forget(keys)
            total += count
            if count < _BATCH:
                break
        if total:
            log.info("tasks.purged", count=total)
        return total
