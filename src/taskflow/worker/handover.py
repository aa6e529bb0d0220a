"""Attempts on their way from the claimer to the slots, in the order in which they are to start."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from queue import SimpleQueue

from taskflow.worker.run import Run

# By so much each priority goes before the next one. All four together stay below the time after which an attempt that
# was claimed ahead is given back, so that nobody is overtaken until then, again and again.
_PRIORITY_SECONDS = 0.05
_TENANTS_REMEMBERED = 256


class Handover:
    """What is claimed ahead must not make others wait that are claimed later: a tenant's attempts count as starting one
    after the other, from the time they were claimed, so that those of another tenant come in between (start-time fair
    queueing, with time itself as the virtual time), and a higher priority overtakes lower ones.

    `put` is called by one thread, `take` by any. Every step is a single operation that CPython makes atomic.
    """

    def __init__(self) -> None:
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one per attempt; False: end
        self._order: list[tuple[float, int, Run]] = []
        self._count = 0
        self._next_start: dict[str, float] = {}  # by tenant: of its next attempt

    def put(self, runs: Sequence[Run], seconds_apart: float) -> None:
        """``seconds_apart``: how soon after one another slots become free for them, about."""
        next_start, order, tokens = self._next_start, self._order, self._tokens
        if len(next_start) > _TENANTS_REMEMBERED:
            claimed_at = runs[0].claimed_at
            self._next_start = next_start = {
                tenant_id: start for tenant_id, start in next_start.items() if start > claimed_at
            }
        for run in runs:
            task = run.attempt.task
            start = max(run.claimed_at, next_start.get(task.tenant_id, 0.0))
            next_start[task.tenant_id] = start + seconds_apart
            self._count += 1
            heappush(order, (start + task.priority * _PRIORITY_SECONDS, self._count, run))
            tokens.put(True)

    def take(self) -> Run | None:
        """The next one; waits for it. None: the slot is to end, once for every `end`."""
        return heappop(self._order)[2] if self._tokens.get() else None

    def end(self, slots: int) -> None:
        """So many slots end, after all that is here already."""
        for _ in range(slots):
            self._tokens.put(False)
