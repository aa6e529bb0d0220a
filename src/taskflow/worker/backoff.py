"""Waiting longer and longer while something is unavailable."""

from __future__ import annotations

import threading

_FIRST_SECONDS = 0.05
_CAP_SECONDS = 2.0


class Backoff:
    """For one thread; `cancel` is for others."""

    def __init__(
        self, *, first_seconds: float = _FIRST_SECONDS, cap_seconds: float = _CAP_SECONDS
    ) -> None:
        self.seconds = self._first = first_seconds
        self._cap = cap_seconds
        self._cancelled = threading.Event()

    def wait(self) -> None:
        self._cancelled.wait(self.seconds)
        self.lengthen()

    def lengthen(self) -> None:
        """For who waits in another way."""
        self.seconds = min(self._cap, 2 * self.seconds)

    def reset(self) -> None:
        self.seconds = self._first

    def cancel(self) -> None:
        """Wait no more, now and later."""
        self._cancelled.set()
