"""How long to leave a queue alone after a call for it has failed."""

from __future__ import annotations

import random
from collections.abc import Callable


class Pause:
    """Doubles with every failure in a row, up to ``cap_seconds``, and is jittered down to half of that, so that many
    processes do not come back together. For one thread at a time; a race makes it a little longer or shorter."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        rng: random.Random,
        *,
        first_seconds: float = 0.5,
        cap_seconds: float = 10.0,
    ) -> None:
        self._monotonic = monotonic
        self._rng = rng
        self._first = first_seconds
        self._cap = cap_seconds
        self._failures = 0
        self.until = 0.0

    def left_seconds(self) -> float:
        """Until it may be tried again; 0.0: now."""
        return max(0.0, self.until - self._monotonic()) if self._failures else 0.0

    def failed(self, *, at_least_seconds: float = 0.0) -> float:
        """Returns the seconds to wait."""
        longest = min(self._cap, self._first * 2.0 ** min(self._failures, 16))
        self._failures += 1
        seconds = max(at_least_seconds, longest * self._rng.uniform(0.5, 1.0))
        self.until = self._monotonic() + seconds
        return seconds

    def succeeded(self) -> bool:
        """Whether it had failed before."""
        had_failed = self._failures > 0
        self._failures = 0
        return had_failed
