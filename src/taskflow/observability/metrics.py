"""Collects one process's metrics between two writings: memory and lines depend on what there is, not on how much."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from taskflow.observability import catalogue, emf
from taskflow.observability.catalogue import Metric

_Key = tuple[Metric, str, str]  # metric, name and value of its dimension ("" without)


class _Sample:
    """At most `MOST_VALUES` of any number of values, each as likely as the next (Vitter's algorithm R), and always the
    largest: alarms look at it."""

    def __init__(self, rng: random.Random) -> None:
        self.values: list[float] = []
        self._seen = 0
        self._largest = float("-inf")
        self._rng = rng

    def add(self, values: Sequence[float]) -> None:
        kept, most = self.values, emf.MOST_VALUES - 1
        for value in values:
            self._seen += 1
            self._largest = max(self._largest, value)
            if len(kept) < most:
                kept.append(value)
            elif (place := self._rng.randrange(self._seen)) < most:
                kept[place] = value

    def all(self) -> list[float]:
        values = self.values if self._largest in self.values else [*self.values, self._largest]
        return [round(value, 3) for value in values]


class Metrics:
    """Thread safe; a `services.counters.Recorder`. `flush` writes what has come together since the last time.

    ``most_tasks``: so many have metrics of their own, first come first served, as long as the process lives.
    ``write`` gets a whole line.
    """

    def __init__(
        self,
        *,
        namespace: str,
        service: str,
        most_tasks: int,
        now_us: Callable[[], int],
        rng: random.Random,
        write: Callable[[str], None] | None = None,
    ) -> None:
        self._namespace = namespace
        self._service = service
        self._most_tasks = most_tasks
        self._now_us = now_us
        self._rng = rng
        self._write = write or _write_stderr
        self._lock = threading.Lock()
        self._tasks: set[str] = set()
        self._counts: Counter[_Key] = Counter()
        self._gauges: dict[_Key, float] = {}
        self._samples: dict[_Key, _Sample] = {}

    # --- Recorder ---------------------------------------------------------------------------------

    def submitted(self, by_task: Mapping[str, int]) -> None:
        self.count(catalogue.SUBMITTED, sum(by_task.values()))

    def rejected(self, reason: str, count: int = 1) -> None:
        self.count(catalogue.REJECTED, count)

    def started(self, waits_ms: Mapping[tuple[str, int], list[float]]) -> None:
        with self._lock:
            for (_, priority), waits in waits_ms.items():
                name = catalogue.PRIORITIES[priority]
                self._sample(catalogue.QUEUE_WAIT, "priority", name).add(waits)

    def finished(
        self,
        runs_ms: Mapping[tuple[str, str], list[float]],
        errors: Mapping[tuple[str, str], int],
    ) -> None:
        with self._lock:
            for (task, outcome), runs in runs_ms.items():
                if (metric := catalogue.OUTCOMES.get(outcome)) is not None:
                    self._counts[metric, "", ""] += len(runs)
                if outcome == "pending":
                    continue  # not started, or let go: no run time of its
                name = self._task(task)
                self._sample(catalogue.RUN_DURATION, "task", name).add(runs)
                if outcome == "failed":
                    self._counts[catalogue.FAILURES, "task", name] += len(runs)
            for (kind, outcome), count in errors.items():
                if outcome == "retrying" and kind in catalogue.RETRIES:
                    self._counts[catalogue.RETRIES[kind], "", ""] += count

    def lost(self, by_task: Mapping[tuple[str, str], int]) -> None:
        with self._lock:
            for (task, outcome), count in by_task.items():
                if outcome == "pending":
                    continue  # they are among the recovered ones
                self._counts[catalogue.OUTCOMES[outcome], "", ""] += count
                if outcome == "failed":
                    self._counts[catalogue.FAILURES, "task", self._task(task)] += count

    def leases_lost(self, count: int) -> None:
        self.count(catalogue.LEASES_LOST, count)

    def recovered(self, count: int) -> None:
        self.count(catalogue.RECOVERED, count)

    # --- others -----------------------------------------------------------------------------------

    def count(self, metric: Metric, count: int = 1) -> None:
        """One without dimensions, or by service."""
        with self._lock:
            self._counts[metric, "", ""] += count

    def gauge(self, metric: Metric, value: float, *, priority: str | None = None) -> None:
        """As it is now; the newest before a flush counts."""
        key = (metric, "", "") if priority is None else (metric, "priority", priority)
        with self._lock:
            self._gauges[key] = value

    def flush(self) -> None:
        """Writes nothing when nothing happened. Never raises: metrics are no reason to end anything."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            gauges, self._gauges = self._gauges, {}
            samples, self._samples = self._samples, {}
        found: dict[_Key, float | list[float]] = {key: n for key, n in counts.items() if n}
        found |= {key: round(value, 3) for key, value in gauges.items()}
        found |= {key: sample.all() for key, sample in samples.items() if sample.values}
        by_dimension: dict[tuple[str, str], dict[Metric, float | list[float]]] = {}
        for (metric, name, value), measured in found.items():
            by_dimension.setdefault((name, value), {})[metric] = measured
        timestamp_ms = self._now_us() // 1_000
        for (name, value), metrics in sorted(by_dimension.items()):
            dimensions = {"service": self._service, name: value}
            for line in emf.lines(
                metrics,
                namespace=self._namespace,
                dimensions=dimensions,
                timestamp_ms=timestamp_ms,
            ):
                self._write(line)

    def _sample(self, metric: Metric, name: str, value: str) -> _Sample:
        key = (metric, name, value)
        sample = self._samples.get(key)
        if sample is None:
            sample = self._samples[key] = _Sample(self._rng)
        return sample

    def _task(self, task: str) -> str:
        if task in self._tasks:
            return task
        if len(self._tasks) >= self._most_tasks:
            return catalogue.OTHER_TASKS
        self._tasks.add(task)
        return task


def _write_stderr(line: str) -> None:
    """Among the logs: one write, as theirs."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody listens any more
