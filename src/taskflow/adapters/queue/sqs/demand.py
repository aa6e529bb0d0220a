"""How many messages the callers of `dequeue` would take now: nothing is received that nobody wants.

Not thread safe: `Intake` holds its lock around every call.
"""

from __future__ import annotations

from collections.abc import Iterable

from taskflow.adapters.queue.sleepers import Sleeper

_FRESH_SECONDS = 1.0  # for so long a call that got less than it asked for counts: it will be back


class Demand:
    """By priority, of those that wait now; else of the last one, if it went away unsatisfied just now."""

    def __init__(self, priorities: Iterable[int]) -> None:
        self._all = frozenset(priorities)
        self._waiting: dict[Sleeper, frozenset[int]] = {}
        self._missing = dict.fromkeys(self._all, 0)
        self._asked_at = 0.0

    def among(self, priorities: frozenset[int] | None) -> frozenset[int]:
        """Those of ``priorities`` (None: any) that are served here."""
        return self._all if priorities is None else self._all & priorities

    def begin(self, sleeper: Sleeper, priorities: frozenset[int]) -> None:
        """It is about to sleep."""
        sleeper.roused = False
        self._waiting[sleeper] = priorities

    def end(self, sleeper: Sleeper) -> None:
        del self._waiting[sleeper]

    def asked(self, priorities: frozenset[int], missing: int, now: float) -> None:
        """A call went away with ``missing`` fewer than it would have taken."""
        self._asked_at = now
        for priority in priorities:
            self._missing[priority] = missing

    def waiting(self, priority: int) -> int:
        """For how many there are callers asleep. One that was roused is on its way to what has come for it."""
        return sum(
            sleeper.max_messages
            for sleeper, priorities in self._waiting.items()
            if priority in priorities and not sleeper.roused
        )

    def lately(self, priority: int, now: float) -> int:
        return self._missing[priority] if now - self._asked_at < _FRESH_SECONDS else 0

    def idle_seconds(self, now: float) -> float:
        """Since anybody asked."""
        return 0.0 if self._waiting else now - self._asked_at
