"""Attempts on their way from the claimer to the slots, in the order in which they are to start."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from heapq import heappop, heappush
from queue import SimpleQueue

from taskflow.worker.run import Run

# By so much each priority goes before the next one. All of them together stay below the time after which an attempt
# that was claimed ahead is given back, so that nobody is overtaken until then, again and again.
_PRIORITY_SECONDS = 0.03
_TENANTS_REMEMBERED = 256


class Handover:
    """What is claimed ahead must not make others wait that are claimed later: tenants take turns, whatever each has
    here (start-time fair queueing, as in the queue itself), and a higher priority overtakes lower ones.

    Thread safe. Every step of `take` is a single operation that CPython makes atomic.
    """

    def __init__(self) -> None:
        self._putting = threading.Lock()
        self._tokens: SimpleQueue[bool] = SimpleQueue()  # one per attempt; False: end
        self._order: list[tuple[float, int, int, Run]] = []
        self._count = 0
        self._turn = 0  # of the attempt that was taken last
        self._next_turns: dict[str, int] = {}  # by tenant
        self._head_start = 1.0  # in turns, of each priority before the next

    def put(self, runs: Sequence[Run], seconds_apart: float) -> None:
        """``seconds_apart``: how soon after one another slots become free for them, about."""
        with self._putting:
            self._put(runs, seconds_apart)

    def _put(self, runs: Sequence[Run], seconds_apart: float) -> None:
        next_turns, order, tokens = self._next_turns, self._order, self._tokens
        if len(next_turns) > _TENANTS_REMEMBERED:
            self._next_turns = next_turns = {
                tenant_id: turn for tenant_id, turn in next_turns.items() if turn > self._turn
            }
        head_start = self._head_start_of(seconds_apart)
        for run in runs:
            task = run.attempt.task
            turn = max(self._turn, next_turns.get(task.tenant_id, 0))
            next_turns[task.tenant_id] = turn + 1
            self._count += 1
            heappush(order, (turn + task.priority * head_start, self._count, turn, run))
            tokens.put(True)

    def _head_start_of(self, seconds_apart: float) -> float:
        """The same as before, unless that was far off: turns of those who come are compared with those who wait, and a
        head start that follows every change of the mean would send newcomers some turns to and fro."""
        wanted = _PRIORITY_SECONDS / seconds_apart
        if not self._order or not 0.5 < wanted / self._head_start < 2.0:
            self._head_start = wanted
        return self._head_start

    def take(self) -> Run | None:
        """The next one; waits for it. None: the slot is to end, once for every `end`."""
        if not self._tokens.get():
            return None
        _, _, turn, run = heappop(self._order)
        self._turn = max(self._turn, turn)
        return run

    def end(self, slots: int) -> None:
        """So many slots end, after all that is here already."""
        for _ in range(slots):
            self._tokens.put(False)
