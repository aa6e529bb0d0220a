"""One end-to-end run in figures."""

from __future__ import annotations

from typing import NamedTuple


class Run(NamedTuple):
    """Seconds since the first submission; ``cpu_seconds`` of the whole process, submitting included."""

    tasks: int
    submitted_seconds: float
    ended_seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.tasks / self.ended_seconds

    @property
    def submitted_per_second(self) -> float:
        return self.tasks / self.submitted_seconds

    @property
    def cpu_us_per_task(self) -> float:
        return self.cpu_seconds / self.tasks * 1e6
