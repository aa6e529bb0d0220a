"""The counts as Prometheus reads them. Imported when somebody asks: the library takes 5 MiB."""

from __future__ import annotations

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

from taskflow.balancer.metrics import BUCKETS

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer


def exposition(shared: Balancer) -> bytes:
    """Text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_Collector(shared))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, shared: Balancer) -> None:
        self._shared = shared

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
        for name, counts in self._shared.metrics.by_instance.items():
            for status, count in counts.by_status.items():
                requests.add_metric((name, str(status)), count)
            total, buckets = 0, []
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts.durations, strict=True):
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
        for (name, reason), count in self._shared.metrics.failures.items():
            failures.add_metric((name, reason), count)
        retries = CounterMetricFamily(
            "taskflow_balancer_retries", "Requests sent again", labels=("instance",)
        )
        for name, count in self._shared.metrics.retries.items():
            retries.add_metric((name,), count)
        refusals = CounterMetricFamily(
            "taskflow_balancer_refused",
            "What clients sent and no instance got to see",
            labels=("code",),
        )
        for code, count in self._shared.metrics.refusals.items():
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
        for instance in self._shared.instances:
            up.add_metric((instance.name,), float(instance.available))
            active.add_metric((instance.name,), instance.active)
            connections.add_metric((instance.name,), instance.connections)
        yield from (up, active, connections)
        yield GaugeMetricFamily(
            "taskflow_balancer_connections",
            "Connections from clients",
            value=len(self._shared.clients),
        )
        yield CounterMetricFamily(
            "taskflow_balancer_connections_accepted",
            "Connections from clients so far",
            value=self._shared.clients.accepted_total,
        )
