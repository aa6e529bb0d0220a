"""Time. The only source of it; tests move it."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_us(self) -> int:
        """Unix microseconds, UTC. May jump, as machine clocks do: use it for moments, never for durations."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back. For durations and deadlines inside one process."""
        ...
