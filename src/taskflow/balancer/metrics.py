"""Counts and times. Labels: instances and codes, never what clients send. `exposition` puts them into words."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class InstanceCounts:
    """Of one instance. Plain numbers: the registry's own counters lock, and cost five times as much."""

    __slots__ = ("by_status", "durations", "request_bytes", "response_bytes", "seconds")

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.durations = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.request_bytes = 0
        self.response_bytes = 0

    def add(self, status: int, seconds: float, request_bytes: int, response_bytes: int) -> None:
        try:
            self.by_status[status] += 1
        except KeyError:
            self.by_status[status] = 1
        self.durations[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes


class BalancerMetrics:
    """Of one balancer, since it started."""

    def __init__(self) -> None:
        self.by_instance: dict[str, InstanceCounts] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    def of(self, instance: str) -> InstanceCounts:
        counts = self.by_instance.get(instance)
        if counts is None:
            counts = self.by_instance[instance] = InstanceCounts()
        return counts

    def failed(self, instance: str, reason: str) -> None:
        """``reason``: connect, lost, stale, timeout or invalid."""
        self.failures[instance, reason] += 1

    def retried(self, instance: str) -> None:
        self.retries[instance] += 1
