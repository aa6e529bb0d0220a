"""Numbers about the whole system, for people and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from taskflow import logs
from taskflow.core.errors import QueueUnavailableError
from taskflow.core.task import TaskPriority
from taskflow.ports.metadata import InsightStore, WorkerRecord, WorkerStore
from taskflow.ports.queue import QueueDepth, TaskQueue
from taskflow.services.counters import Counters

log = logs.get_logger(__name__)

_RUNNING = "running"


class Insights:
    """Counts come from the store and hold across processes; totals and latencies are this process's."""

    def __init__(
        self,
        store: InsightStore,
        *,
        workers: WorkerStore,
        queue: TaskQueue,
        counters: Counters,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._workers = workers
        self._queue = queue
        self._counters = counters
        self._now_us = now_us

    def metrics(self, tenant_id: str | None) -> dict[str, Any]:
        """For `GET /api/v1/metrics`. ``queue`` has ``<status>_count`` for every status."""
        counts = self._store.counts(tenant_id)
        measured = self._counters.snapshot()
        return {
            "queue": {
                **{f"{status}_count": count for status, count in counts.by_status.items()},
                "depth": sum(
                    counts.by_status[status]
                    for status in ("pending", "scheduled", "retrying", "blocked")
                ),
                "oldest_waiting_seconds": counts.oldest_waiting_seconds,
            },
            "active_by_priority": {
                TaskPriority(priority).name.lower(): count
                for priority, count in counts.active_by_priority.items()
            },
            "mean_duration_ms": counts.mean_duration_ms,
            "totals": measured["totals"],
            "latency_ms": {
                "run": self._counters.run_ms.summary(),
                "wait": self._counters.wait_ms.summary(),
            },
            "errors_by_class": measured["errors_by_class"],
            "workers": self._worker_summary(),
        }

    def stats(self) -> dict[str, Any]:
        """For `GET /stats`: the short form."""
        counts = self._store.counts(None)
        waiting = ("pending", "scheduled", "retrying", "blocked")
        return {
            "queue_size": sum(counts.by_status[status] for status in waiting),
            "running": counts.by_status[_RUNNING],
            "completed": counts.by_status["completed"],
            "failed": counts.by_status["failed"],
            "workers": self._worker_summary(),
        }

    def workers(self) -> list[WorkerRecord]:
        """Those that have reported in the last hour or so; without a sign of life for a minute they are silent."""
        now = self._now_us()
        return [worker.seen_from(now) for worker in self._workers.list()]

    def prometheus(self) -> bytes:
        """Text exposition format 0.0.4."""
        from taskflow.services.exposition import exposition

        return exposition(
            self._counters.measured(),
            counts=self._store.counts(None),
            depths=self._depths(),
            workers=self.workers(),
        )

    def _depths(self) -> Mapping[TaskPriority, QueueDepth]:
        try:
            return self._queue.depths()
        except QueueUnavailableError as exc:  # the other numbers are wanted all the more then
            log.warning("queue.depths_failed", error=exc.detail)
            return {}

    def _worker_summary(self) -> dict[str, int]:
        running = [worker for worker in self.workers() if worker.status == _RUNNING]
        slots = sum(int(worker.details.get("total", 0)) for worker in running)
        busy = sum(int(worker.details.get("busy", 0)) for worker in running)
        return {"processes": len(running), "total": slots, "busy": busy, "idle": slots - busy}
