"""Counts and ages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class TaskCounts(NamedTuple):
    """By status, and by priority among those not final; durations in ms over finished attempts of the last 24 h."""

    by_status: Mapping[str, int]
    active_by_priority: Mapping[int, int]
    oldest_waiting_seconds: float | None
    mean_duration_ms: float | None


class Backlog(NamedTuple):
    """How late the system is. ``overdue_messages``: in the outbox although they are due, and for how long the oldest
    of them; ``oldest_waiting_seconds``: of the task that has been due longest, for every priority, 0 without one."""

    overdue_messages: int
    overdue_seconds: float
    oldest_waiting_seconds: Mapping[int, float]


class InsightStore(Protocol):
    """Numbers for metrics and dashboards."""

    def backlog(self, *, most: int) -> Backlog:
        """Of all tenants. Cheap, however much waits: messages are counted up to ``most``."""
        ...

    def counts(self, tenant_id: str | None) -> TaskCounts:
        """Of one tenant, or of all."""
        ...

    def fold(self, *, ended_before: int) -> int:
        """Keep of what ended before then the totals only, no longer by the hour; how many rows went in."""
        ...
