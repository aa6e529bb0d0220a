"""What this process has measured since it started: totals, latencies, errors. `exposition` shows it to Prometheus."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

# Latency buckets in seconds: half a millisecond (an idle embedded system) to five minutes.
BUCKETS = (
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
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
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


class Spread(NamedTuple):
    """Durations in seconds. ``counts`` has one more than BUCKETS: of what is up to each bound, beyond the last one."""

    counts: list[int]
    sum_seconds: float


class Measured(NamedTuple):
    """Totals since this process started, for Prometheus. A key of ``counts`` is a name and the values of its labels:
    submitted (task), rejected (reason), replayed, started (task), finished (task, outcome), ended_waiting (outcome),
    fenced, recovered, abandoned. ``runs`` and ``waits`` are by task."""

    counts: Mapping[tuple[str, ...], int]
    runs: Mapping[str, Spread]
    waits: Mapping[str, Spread]


class _Spreads:
    """By task. Not thread safe."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._sums: dict[str, float] = defaultdict(float)

    def add(self, task: str, values_ms: list[float]) -> None:
        counts, total = self._counts[task], 0.0
        for value in values_ms:
            seconds = value / 1_000
            counts[bisect_left(BUCKETS, seconds)] += 1
            total += seconds
        self._sums[task] += total

    def copy(self) -> dict[str, Spread]:
        return {
            task: Spread(counts.copy(), self._sums[task]) for task, counts in self._counts.items()
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

    def lost(self, by_task: Mapping[tuple[str, str], int]) -> None: ...

    def leases_lost(self, count: int) -> None: ...

    def recovered(self, count: int) -> None: ...


class Counters:
    """Thread safe. Names of tasks are all that there may be many of."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._errors: Counter[str] = Counter()
        self._runs, self._waits = _Spreads(), _Spreads()
        self.run_ms = Latencies()
        self.wait_ms = Latencies()

    def submitted(self, by_task: Mapping[str, int]) -> None:
        with self._lock:
            for task, count in by_task.items():
                self._counts["submitted", task] += count
        if self._recorder is not None:
            self._recorder.submitted(by_task)

    def replayed(self, count: int) -> None:
        self._add("replayed", count=count)

    def rejected(self, reason: str, count: int = 1) -> None:
        """A submission that was refused; ``reason`` is the error's code."""
        self._add("rejected", reason, count=count)
        if self._recorder is not None:
            self._recorder.rejected(reason, count)

    def started(self, waits_ms: Mapping[tuple[str, int], list[float]]) -> None:
        """Attempts started, with the time each waited since it was due, by task and priority."""
        if self._recorder is not None:
            self._recorder.started(waits_ms)
        with self._lock:
            for (task, _), waits in waits_ms.items():
                self._counts["started", task] += len(waits)
                self._waits.add(task, waits)
        for waits in waits_ms.values():
            self.wait_ms.add(waits)

    def finished(
        self,
        runs_ms: Mapping[tuple[str, str], list[float]],
        errors: Mapping[tuple[str, str], int],
    ) -> None:
        """Attempts ended, with their run times, by task and outcome (a task status); and how many of them with an
        error, by its class and the outcome."""
        if self._recorder is not None:
            self._recorder.finished(runs_ms, errors)
        with self._lock:
            for (task, outcome), runs in runs_ms.items():
                self._counts["finished", task, outcome] += len(runs)
                self._runs.add(task, runs)
            for (kind, _), count in errors.items():
                self._errors[kind] += count
        for runs in runs_ms.values():
            self.run_ms.add(runs)

    def lost(self, by_task: Mapping[tuple[str, str], int], errors: Mapping[str, int]) -> None:
        """Attempts that ended with their worker, and nobody knows how long they ran: by task and outcome, and by class
        of the error. Those that are repeated are in the total of `recovered`."""
        if self._recorder is not None:
            self._recorder.lost(by_task)
        with self._lock:
            for (task, outcome), count in by_task.items():
                self._counts["lost", task, outcome] += count
            self._errors.update(errors)

    def ended_waiting(self, outcome: str, count: int = 1) -> None:
        """Tasks that ended without the attempt they waited for; ``outcome`` is their status."""
        if count:
            self._add("ended_waiting", outcome, count=count)

    def fenced(self, count: int) -> None:
        """Outcomes that were not written, because the lease had been lost."""
        if self._recorder is not None:
            self._recorder.leases_lost(count)
        self._add("fenced", count=count)

    def recovered(self, count: int) -> None:
        if self._recorder is not None:
            self._recorder.recovered(count)
        self._add("recovered", count=count)

    def abandoned(self, count: int = 1) -> None:
        """A thread that had to be given up: its handler did not end, interrupted or not."""
        self._add("abandoned", count=count)

    def snapshot(self) -> dict[str, Any]:
        """Totals and errors by class since this process started."""
        with self._lock:
            counts, errors = self._counts.copy(), dict(self._errors)
        totals: Counter[str] = Counter()
        for (name, *labels), count in counts.items():
            total = labels[-1] if name in _BY_OUTCOME else name
            if (name, total) != ("lost", "pending"):
                totals[total] += count
        return {
            "totals": {total: totals[name] for name, total in _TOTAL_OF.items()},
            "errors_by_class": errors,
        }

    def measured(self) -> Measured:
        """A copy of everything that Prometheus is shown."""
        with self._lock:
            counts, runs, waits = self._counts.copy(), self._runs.copy(), self._waits.copy()
        for name, *labels in list(counts):
            if name == "lost":
                counts["finished", *labels] += counts.pop((name, *labels))
        return Measured(counts, runs, waits)

    def _add(self, *key: str, count: int) -> None:
        with self._lock:
            self._counts[key] += count


_BY_OUTCOME = ("finished", "lost", "ended_waiting")
# What `snapshot` calls what was counted, by outcome what ended.
_TOTAL_OF = {
    "submitted": "enqueued",
    "started": "dequeued",
    "completed": "succeeded",
    "failed": "failed",
    "retrying": "retried",
    "cancelled": "cancelled",
    "expired": "expired",
    "rejected": "rejected",
    "replayed": "replayed",
    "pending": "given_back",
    "recovered": "recovered",
    "fenced": "fenced",
    "abandoned": "abandoned",
}
