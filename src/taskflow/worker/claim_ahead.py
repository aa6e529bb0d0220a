"""How many attempts to claim beyond the free slots.

Claiming many at once makes transactions cheap; claiming what cannot start soon makes priority, fairness and
cancellation a lie. So: only what will start within about 20 ms, judged by how long such tasks took so far; that is
still hundreds of the shortest ones. With 100 ms a quiet tenant waited two to three times as long beside a flood.

And claiming happens often: whoever comes in waits until the next claim, whoever's turn it is.
"""

from __future__ import annotations

import math

HORIZON_SECONDS = 0.02
REFILL_SECONDS = 0.01  # more is claimed when what starts within it has started
MAX_AHEAD = 256
_WEIGHT = 0.1  # of the newest run time in the mean, once there are more of them than a plain mean would weigh
_LEAST_SECONDS = 100e-6  # what the engine itself needs for a task, however short the handler


class ClaimAhead:
    """Means of run times over all tasks and by name, weighted exponentially.

    `observe` is called by every worker thread without a lock: a lost update makes a mean a little older, no more.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._mean = math.inf
        self._means: dict[
            str, tuple[float, float]
        ] = {}  # the mean and the weight of the last that is in it
        self._cautious = False

    def observe(self, task: str, seconds: float) -> None:
        mean = self._mean
        self._mean = seconds if mean == math.inf else mean + _WEIGHT * (seconds - mean)
        if (known := self._means.get(task)) is None:
            self._means[task] = (seconds, 1.0)
        else:
            # A plain mean of the first ones: the very first may have met a pause that says nothing about the task.
            mean, weight = known
            weight = max(_WEIGHT, weight / (1.0 + weight))
            self._means[task] = (mean + weight * (seconds - mean), weight)

    def expected_seconds(self, task: str) -> float:
        """Infinite for a task that never ran here."""
        known = self._means.get(task)
        return math.inf if known is None else max(known[0], _LEAST_SECONDS)

    @property
    def seconds_apart(self) -> float:
        """How soon after one another slots become free, about."""
        return min(max(self._mean, _LEAST_SECONDS), HORIZON_SECONDS) / self._num_workers

    def is_long(self, task: str) -> bool:
        """Whether it keeps its slot beyond the horizon, as far as is known."""
        return self.expected_seconds(task) >= HORIZON_SECONDS

    def limit(self, free_running_slots: int) -> int:
        """Most attempts to hold beyond the free slots. ``free_running_slots``: those not held by long tasks."""
        if self._cautious or free_running_slots <= 0:
            return 0
        return min(
            MAX_AHEAD, int(HORIZON_SECONDS * free_running_slots / max(self._mean, _LEAST_SECONDS))
        )

    def refill_below(self, limit: int, free_running_slots: int) -> int:
        """No more than so many of ``limit`` wait when the next are claimed."""
        started = int(REFILL_SECONDS * free_running_slots / max(self._mean, _LEAST_SECONDS))
        return limit - min(max(started, 1), limit)

    def be_cautious(self) -> None:
        """The last guess was too high, or what comes next needs a free slot: nothing ahead until `be_confident`."""
        self._cautious = True

    def be_confident(self) -> None:
        """What was claimed last had free slots, and nothing had to wait for one."""
        self._cautious = False
