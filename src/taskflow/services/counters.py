"""What this process has measured since it started: totals, latencies, errors. Prometheus counts for us."""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

# Latency buckets in seconds: half a millisecond (an idle embedded system) to five minutes.
_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)
_SAMPLES = 4_096


class Latencies:
    """The newest samples of a duration in ms, for exact quantiles over them. Thread safe."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._next = 0
        self._count = 0
        self._lock = threading.Lock()

    def add(self, values: list[float]) -> None:
        with self._lock:
            self._count += len(values)
            for value in values[-_SAMPLES:]:
                if len(self._samples) < _SAMPLES:
                    self._samples.append(value)
                else:
                    self._samples[self._next] = value
                    self._next = (self._next + 1) % _SAMPLES

    def summary(self) -> dict[str, float | int | None]:
        """``count`` of all, the others over the newest samples; None while there are none."""
        with self._lock:
            ordered, count = sorted(self._samples), self._count
        if not ordered:
            return {"count": 0, **dict.fromkeys(("mean", "p50", "p95", "p99", "min", "max"))}

        def quantile(q: float) -> float:
            return round(ordered[math.ceil(q * len(ordered)) - 1], 3)  # nearest rank

        return {
            "count": count,
            "mean": round(sum(ordered) / len(ordered), 3),
            "p50": quantile(0.5),
            "p95": quantile(0.95),
            "p99": quantile(0.99),
            "min": round(ordered[0], 3),
            "max": round(ordered[-1], 3),
        }


class Recorder(Protocol):
    """Who else is told of everything, in the same words; thread safe. `observability.metrics.Metrics` is one."""

    def submitted(self, by_task: Mapping[str, int]) -> None: ...

    def rejected(self, reason: str, count: int = 1) -> None: ...

    def started(self, waits_ms: Mapping[tuple[str, int], list[float]]) -> None: ...

    def finished(
        self,
        runs_ms: Mapping[tuple[str, str], list[float]],
        errors: Mapping[tuple[str, str], int],
    ) -> None: ...

    def leases_lost(self, count: int) -> None: ...

    def recovered(self, count: int) -> None: ...


class Counters:
    """Thread safe. ``registry`` is what `/metrics` exposes; task names are its only open label."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._totals: Tally[str] = Tally()
        self._errors: Tally[str] = Tally()
        self.run_ms = Latencies()
        self.wait_ms = Latencies()
        self._submitted = self._counter("taskflow_tasks_submitted", "Accepted submissions", "task")
        self._rejected = self._counter(
            "taskflow_submissions_rejected", "Refused submissions", "reason"
        )
        self._replayed = self._counter(
            "taskflow_submissions_replayed", "Answered from an idempotency key"
        )
        self._started = self._counter("taskflow_attempts_started", "Attempts started", "task")
        self._finished = self._counter(
            "taskflow_attempts_finished", "Attempts ended", "task", "outcome"
        )
        self._fenced = self._counter(
            "taskflow_outcomes_fenced", "Outcomes not written: the lease had been lost"
        )
        self._recovered = self._counter(
            "taskflow_tasks_recovered", "Tasks taken over from dead workers"
        )
        self._abandoned = self._counter(
            "taskflow_threads_abandoned", "Threads given up, blocked beyond a timeout"
        )
        self._run = Histogram(
            "taskflow_task_run_seconds",
            "Run time of attempts",
            ["task"],
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self._wait = Histogram(
            "taskflow_task_wait_seconds",
            "From due to started",
            ["task"],
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def submitted(self, by_task: Mapping[str, int]) -> None:
        for task, count in by_task.items():
            self._submitted.labels(task).inc(count)
        self._add("enqueued", sum(by_task.values()))
        if self._recorder is not None:
            self._recorder.submitted(by_task)

    def replayed(self, count: int) -> None:
        self._replayed.inc(count)
        self._add("replayed", count)

    def rejected(self, reason: str, count: int = 1) -> None:
        """A submission that was refused; ``reason`` is the error's code."""
        self._rejected.labels(reason).inc(count)
        self._add("rejected", count)
        if self._recorder is not None:
            self._recorder.rejected(reason, count)

    def started(self, waits_ms: Mapping[tuple[str, int], list[float]]) -> None:
        """Attempts started, with the time each waited since it was due, by task and priority."""
        if self._recorder is not None:
            self._recorder.started(waits_ms)
        for (task, _), waits in waits_ms.items():
            self._started.labels(task).inc(len(waits))
            histogram = self._wait.labels(task)
            for wait in waits:
                histogram.observe(wait / 1000)
            self.wait_ms.add(waits)
            self._add("dequeued", len(waits))

    def finished(
        self,
        runs_ms: Mapping[tuple[str, str], list[float]],
        errors: Mapping[tuple[str, str], int],
    ) -> None:
        """Attempts ended, with their run times, by task and outcome (a task status); and how many of them with an
        error, by its class and the outcome."""
        if self._recorder is not None:
            self._recorder.finished(runs_ms, errors)
        for (task, outcome), runs in runs_ms.items():
            self._finished.labels(task, outcome).inc(len(runs))
            histogram = self._run.labels(task)
            for run in runs:
                histogram.observe(run / 1000)
            self.run_ms.add(runs)
            self._add(_TOTAL_OF.get(outcome, outcome), len(runs))
        if errors:
            with self._lock:
                for (kind, _), count in errors.items():
                    self._errors[kind] += count

    def fenced(self, count: int) -> None:
        """Outcomes that were not written, because the lease had been lost."""
        if self._recorder is not None:
            self._recorder.leases_lost(count)
        self._fenced.inc(count)
        self._add("fenced", count)

    def recovered(self, count: int) -> None:
        if self._recorder is not None:
            self._recorder.recovered(count)
        self._recovered.inc(count)
        self._add("recovered", count)

    def abandoned(self, count: int = 1) -> None:
        """A thread that had to be given up: its handler did not end, interrupted or not."""
        self._abandoned.inc(count)
        self._add("abandoned", count)

    def snapshot(self) -> dict[str, Any]:
        """Totals and errors by class since this process started."""
        with self._lock:
            totals = {name: self._totals[name] for name in _TOTALS}
            return {"totals": totals, "errors_by_class": dict(self._errors)}

    def _add(self, name: str, count: int) -> None:
        with self._lock:
            self._totals[name] += count

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)


_TOTAL_OF = {"completed": "succeeded", "retrying": "retried", "pending": "given_back"}
_TOTALS = (
    "enqueued", "dequeued", "succeeded", "failed", "retried", "cancelled", "rejected", "replayed", "given_back",
    "recovered", "fenced", "abandoned",
)  # fmt: skip
