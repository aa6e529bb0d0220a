"""Requests counted and timed for Prometheus. Labels are route templates: never ids, tenants or what clients send."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

# Seconds. The hot route answers within a few milliseconds; `?wait=` holds answers for up to 30 s.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Of one application. Its registry is its own, so that a process may have several applications."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "taskflow_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._durations = Histogram(
            "taskflow_http_request_duration_seconds",
            "From the first byte of a request to the last of its answer",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # `labels()` costs as much as counting does. Keys are bounded: methods × routes × statuses.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        if method not in _METHODS:
            method = "OTHER"
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._requests.labels(method, route, str(status))
            self._counters[method, route, status] = counter
        timer = self._timers.get((method, route))
        if timer is None:
            timer = self._timers[method, route] = self._durations.labels(method, route)
        counter.inc()
        timer.observe(seconds)

    def exposition(self) -> bytes:
        """Text format 0.0.4."""
        return generate_latest(self._registry)
