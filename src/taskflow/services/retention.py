"""Deletes what has been final for longer than it is to be kept, and keeps the statistics small."""

from __future__ import annotations

from collections.abc import Callable

from taskflow import logs
from taskflow.ports.metadata import InsightStore, RetentionStore
from taskflow.services.batch_size import BatchSize
from taskflow.services.payloads import Payloads

log = logs.get_logger(__name__)

_BATCH = 500  # small transactions: retention must never hold up the work
_DAY_US = 86_400 * 1_000_000
_HOUR_US = 3_600 * 1_000_000
_TALLIES_BY_HOUR_US = 7 * _DAY_US  # beyond that statistics need totals only


class Retention:
    """Safe to run in any number of processes at once."""

    def __init__(
        self,
        store: RetentionStore,
        payloads: Payloads,
        *,
        insights: InsightStore,
        now_us: Callable[[], int],
        keep_days: float,
    ) -> None:
        self._store = store
        self._insights = insights
        self._folded_hour = 0
        self._payloads = payloads
        self._now_us = now_us
        self._keep_days = keep_days
        self._at_once = BatchSize(_BATCH)

    def run_once(self, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Returns how many tasks were deleted, in batches while ``goes_on``. ``keep_days`` 0 keeps everything.

        Rows go before their payloads: after a crash between the two, `taskflow doctor` finds payloads without a row,
        never a row without its payload.
        """
        now = self._now_us()
        if now // _HOUR_US != self._folded_hour:
            self._folded_hour = now // _HOUR_US
            self._insights.fold(ended_before=now - _TALLIES_BY_HOUR_US)
        if not self._keep_days:
            return 0
        before = now - int(self._keep_days * _DAY_US)
        total = 0
        while goes_on():
            count, keys = self._at_once.fit(
                lambda limit: self._store.purge(finished_before=before, limit=limit)
            )
            if not count:
                break
            self._payloads.forget(keys)
            total += count
        if total:
            log.info("tasks.purged", count=total)
        return total
