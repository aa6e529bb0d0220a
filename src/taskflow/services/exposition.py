"""What Prometheus reads. Imported when somebody asks: its library takes 16 ms, and most processes are never asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from taskflow.core.task import TaskPriority
from taskflow.ports.metadata import TaskCounts, WorkerRecord
from taskflow.ports.queue import QueueDepth
from taskflow.services.counters import BUCKETS, Measured, Spread

# By the name in `Measured.counts`. Names of tasks are the only open label.
_TOTALS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "submitted": ("taskflow_tasks_submitted", "Accepted submissions", ("task",)),
    "rejected": ("taskflow_submissions_rejected", "Refused submissions", ("reason",)),
    "replayed": ("taskflow_submissions_replayed", "Answered from an idempotency key", ()),
    "started": ("taskflow_attempts_started", "Attempts started", ("task",)),
    "finished": ("taskflow_attempts_finished", "Attempts ended", ("task", "outcome")),
    "ended_waiting": (
        "taskflow_waiting_tasks_ended",
        "Tasks that ended while they waited: expired, cancelled, failed with one they depend on",
        ("outcome",),
    ),
    "fenced": ("taskflow_outcomes_fenced", "Outcomes not written: the lease had been lost", ()),
    "recovered": ("taskflow_tasks_recovered", "Tasks taken over from dead workers", ()),
    "abandoned": (
        "taskflow_threads_abandoned",
        "Threads given up, blocked beyond a timeout",
        (),
    ),
}


def exposition(
    measured: Measured,
    *,
    counts: TaskCounts,
    depths: Mapping[TaskPriority, QueueDepth],
    workers: Sequence[WorkerRecord],
) -> bytes:
    """Text format 0.0.4: this process's totals, and the store's counts."""
    registry = CollectorRegistry()
    registry.register(_Collector(measured, counts, depths, workers))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)  # the registry wants it by identity
class _Collector(Collector):
    measured: Measured
    counts: TaskCounts
    depths: Mapping[TaskPriority, QueueDepth]
    workers: Sequence[WorkerRecord]

    def collect(self) -> Iterator[Metric]:
        yield from self._totals()
        yield _histogram("taskflow_task_run_seconds", "Run time of attempts", self.measured.runs)
        yield _histogram("taskflow_task_wait_seconds", "From due to started", self.measured.waits)
        yield from self._gauges()

    def _totals(self) -> Iterator[Metric]:
        counted = self.measured.counts
        for name, (metric, meaning, labels) in _TOTALS.items():
            family = CounterMetricFamily(metric, meaning, labels=labels)
            if not labels:
                family.add_metric((), counted.get((name,), 0))
            for (counter, *values), count in counted.items():
                if labels and counter == name:
                    family.add_metric(values, count)
            yield family

    def _gauges(self) -> Iterator[Metric]:
        tasks = GaugeMetricFamily("taskflow_tasks", "Tasks by status", labels=("status",))
        for status, count in self.counts.by_status.items():
            tasks.add_metric((status,), count)
        yield tasks
        yield GaugeMetricFamily(
            "taskflow_queue_oldest_age_seconds",
            "How long the oldest due task has waited",
            value=self.counts.oldest_waiting_seconds or 0.0,
        )
        depth = GaugeMetricFamily(
            "taskflow_queue_depth", "Messages in the queue", labels=("priority", "state")
        )
        for priority, states in self.depths.items():
            for state, count in states._asdict().items():
                depth.add_metric((priority.name.lower(), state), count)
        yield depth
        workers = GaugeMetricFamily(
            "taskflow_workers", "Worker processes by status", labels=("status",)
        )
        for status in ("running", "draining", "stopped", "silent"):
            workers.add_metric((status,), sum(worker.status == status for worker in self.workers))
        yield workers


def _histogram(name: str, meaning: str, by_task: Mapping[str, Spread]) -> Metric:
    family = HistogramMetricFamily(name, meaning, labels=("task",))
    for task, spread in by_task.items():
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), spread.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric((task,), buckets, spread.sum_seconds)
    return family
