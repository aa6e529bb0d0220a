"""How late the system is, for metrics: read from the store, so one process's look is as good as another's."""

from __future__ import annotations

from taskflow.observability import catalogue
from taskflow.observability.metrics import Metrics
from taskflow.ports.metadata import InsightStore

_MOST_MESSAGES = 10_000  # counted; more is as bad


class BacklogMeasurement:
    """Says zero where nothing waits: an alarm without data would not know that it is over."""

    def __init__(self, store: InsightStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    def run(self) -> None:
        """Raises StoreUnavailableError."""
        backlog = self._store.backlog(most=_MOST_MESSAGES)
        self._metrics.gauge(catalogue.OUTBOX_PENDING, backlog.overdue_messages)
        self._metrics.gauge(catalogue.OUTBOX_LAG, backlog.overdue_seconds)
        for priority, seconds in backlog.oldest_waiting_seconds.items():
            name = catalogue.PRIORITIES[priority]
            self._metrics.gauge(catalogue.OLDEST_WAITING, seconds, priority=name)
