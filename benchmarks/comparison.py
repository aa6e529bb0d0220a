"""What came of a task file on one side of the comparison."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """``after_ms``: since the first submission of the whole file."""

    priority: str
    status: str
    after_ms: float


@dataclass(frozen=True)
class Comparison:
    """One side's run."""

    name: str
    seconds: float
    cpu_seconds: float
    retries: int
    ended: list[Ended]

    def summary(self) -> dict[str, Any]:
        """As shown and as JSON; times count from the first submission of the file until a task's end."""
        after = sorted(task.after_ms for task in self.ended)
        statuses = Counter(task.status for task in self.ended)
        by_priority: dict[str, list[float]] = {}
        for task in self.ended:
            by_priority.setdefault(task.priority, []).append(task.after_ms)
        return {
            "seconds": round(self.seconds, 3),
            "tasks_per_second": round(len(self.ended) / self.seconds, 1),
            "cpu_us_per_task": round(self.cpu_seconds / len(self.ended) * 1e6, 1),
            "completed": statuses["completed"],
            "failed": statuses["failed"],
            "retries": self.retries,
            "ended_after_ms_p50": round(after[len(after) // 2], 1),
            "ended_after_ms_p95": round(after[len(after) * 95 // 100], 1),
            "ended_after_ms_max": round(after[-1], 1),
            "mean_ended_after_ms_by_priority": {
                name: round(statistics.mean(by_priority[name]), 1)
                for name in ("critical", "high", "normal", "low")
                if name in by_priority
            },
        }
