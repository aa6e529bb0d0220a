"""A clock for tests: time stands still until the test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable

JANUARY_2026_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


class FakeClock:
    """A clock that only `advance`, `jump` and `set` move. Thread safe.

    Whoever waits for time to pass subscribes with `on_advance` and looks at the clock again when called; the local
    queue does, so that a worker which waits in `dequeue` notices at once.
    """

    def __init__(self, now_us: int = JANUARY_2026_US, monotonic: float = 1_000.0) -> None:
        self._lock = threading.Lock()
        self._now_us = now_us
        self._monotonic = monotonic
        self._listeners: list[Callable[[], None]] = []

    def now_us(self) -> int:
        """Unix microseconds, UTC."""
        return self._now_us

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks move. Raises ValueError for negative ``seconds``."""
        if seconds < 0:
            raise ValueError(f"time does not go back; `jump` sets the wall clock: {seconds}")
        self._move(wall_us=round(seconds * 1_000_000), monotonic=seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or, when negative, back, as an operator or NTP does. No time passes."""
        self._move(wall_us=round(seconds * 1_000_000), monotonic=0.0)

    def set(self, *, now_us: int) -> None:
        """Set the wall clock to this moment. No time passes."""
        self._move(wall_us=now_us - self._now_us, monotonic=0.0)

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every move, in the thread that made it."""
        with self._lock:
            self._listeners.append(listener)

    def _move(self, *, wall_us: int, monotonic: float) -> None:
        with self._lock:
            self._now_us += wall_us
            self._monotonic += monotonic
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
