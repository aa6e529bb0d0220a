"""Counts and times for Prometheus and the status page. Labels: instances and codes, never what clients send."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from taskflow.balancer.clients import Clients
    from taskflow.balancer.instances import Instances

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class InstanceCounts:
    """Of one instance. Plain numbers: the registry's own counters lock, and cost five times as much."""

    __slots__ = ("by_status", "durations", "request_bytes", "response_bytes", "seconds")

    def __init__(self) -> None:
        self.by_status: Counter[int] = Counter()
        self.durations = [0] * (len(_BUCKETS) + 1)
        self.seconds = 0.0
        self.request_bytes = 0
        self.response_bytes = 0

    def add(self, status: int, seconds: float, request_bytes: int, response_bytes: int) -> None:
        self.by_status[status] += 1
        self.durations[bisect_left(_BUCKETS, seconds)] += 1
        self.seconds += seconds
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes


class BalancerMetrics(Collector):
    def __init__(self, instances: Instances, clients: Clients) -> None:
        self._instances = instances
        self._clients = clients
        self.by_instance: dict[str, InstanceCounts] = {}
        self.failures: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

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

    def exposition(self) -> bytes:
        """Text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "taskflow_balancer_requests", "Exchanges that ended", labels=("instance", "status")
        )
        durations = HistogramMetricFamily(
            "taskflow_balancer_request_duration_seconds",
            "From the end of a request's head to the end of its answer",
            labels=("instance",),
        )
        size = CounterMetricFamily(
            "taskflow_balancer_bytes",
            "Bytes passed on, heads included",
            labels=("instance", "direction"),
        )
        for name, counts in self.by_instance.items():
            for status, count in counts.by_status.items():
                requests.add_metric((name, str(status)), count)
            total, buckets = 0, []
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts.durations, strict=True):
                total += count
                buckets.append((bound, float(total)))
            durations.add_metric((name,), buckets, counts.seconds)
            size.add_metric((name, "request"), counts.request_bytes)
            size.add_metric((name, "response"), counts.response_bytes)
        yield from (requests, durations, size)
        failures = CounterMetricFamily(
            "taskflow_balancer_instance_failures", "What went wrong with instances",
            labels=("instance", "reason"),
        )  # fmt: skip
        for (name, reason), count in self.failures.items():
            failures.add_metric((name, reason), count)
        retries = CounterMetricFamily(
            "taskflow_balancer_retries", "Requests sent again", labels=("instance",)
        )
        for name, count in self.retries.items():
            retries.add_metric((name,), count)
        refusals = CounterMetricFamily(
            "taskflow_balancer_refused",
            "What clients sent and no instance got to see",
            labels=("code",),
        )
        for code, count in self.refusals.items():
            refusals.add_metric((code,), count)
        yield from (failures, retries, refusals)
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "taskflow_balancer_instance_up", "1: it gets requests", labels=("instance",)
        )
        active = GaugeMetricFamily(
            "taskflow_balancer_instance_active", "Exchanges it works on", labels=("instance",)
        )
        connections = GaugeMetricFamily(
            "taskflow_balancer_instance_connections", "Connections to it", labels=("instance",)
        )
        for instance in self._instances:
            up.add_metric((instance.name,), float(instance.available))
            active.add_metric((instance.name,), instance.active)
            connections.add_metric((instance.name,), instance.connections)
        yield from (up, active, connections)
        yield GaugeMetricFamily(
            "taskflow_balancer_connections", "Connections from clients", value=len(self._clients)
        )
        yield CounterMetricFamily(
            "taskflow_balancer_connections_accepted",
            "Connections from clients so far",
            value=self._clients.accepted_total,
        )
