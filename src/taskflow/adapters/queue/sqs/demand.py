"""How many messages the callers of `dequeue` would take now: nothing is received that nobody wants.

Not thread safe: `Intake` holds its lock around every call.
"""

from __future__ import annotations

from collections.abc import Iterable

_FRESH_SECONDS = 1.0  # for so long a call that got less than it asked for counts: it will be back


class Demand:
    """By priority, of those that wait now; else of the last one, if it went away unsatisfied just now."""

    def __init__(self, priorities: Iterable[int]) -> None:
        self._all = frozenset(priorities)
        self._waiting = dict.fromkeys(self._all, 0)
        self._left = dict.fromkeys(self._all, 0)
        self._asked_at = 0.0

    def among(self, priorities: frozenset[int] | None) -> frozenset[int]:
        """Those of ``priorities`` (None: any) that are served here."""
        return self._all if priorities is None else self._all & priorities

    def begin(self, priorities: frozenset[int], count: int) -> None:
        """Somebody waits for up to ``count``."""
        for priority in priorities:
            self._waiting[priority] += count

    def end(self, priorities: frozenset[int], count: int) -> None:
        """It waits no more."""
        for priority in priorities:
            self._waiting[priority] -= count

    def asked(self, priorities: frozenset[int], missing: int, now: float) -> None:
        """A call went away with ``missing`` fewer than it would have taken."""
        self._asked_at = now
        for priority in priorities:
            self._left[priority] = missing

    def waiting(self, priority: int) -> int:
        return self._waiting[priority]

    def lately(self, priority: int, now: float) -> int:
        return self._left[priority] if now - self._asked_at < _FRESH_SECONDS else 0

    def idle_seconds(self, now: float) -> float:
        """Since anybody asked."""
        return 0.0 if any(self._waiting.values()) else now - self._asked_at
