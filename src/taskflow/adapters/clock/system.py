"""The clock of the machine."""

from __future__ import annotations

import time


class SystemClock:
    """Clock on the operating system's wall clock and its monotonic one."""

    def now_us(self) -> int:
        """Unix microseconds, UTC. Jumps when the machine's clock is set."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; on Linux the time the machine sleeps does not count."""
        return time.monotonic()
