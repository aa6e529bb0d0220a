"""When the next attempt is due: exponential backoff with full jitter, a cap, and the task's own wishes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from taskflow.core.errors import RegistrationError


class Retry(Exception):  # noqa: N818 - raised by handlers as a request, not an error
    """Raise in a handler to ask for another attempt. ``delay`` in seconds replaces the backoff.

    ``counts=False`` does not use up a retry (for waiting on something, e.g. a rate limit).
    """

    def __init__(
        self, reason: str = "retry requested", *, delay: float | None = None, counts: bool = True
    ) -> None:
        super().__init__(reason)
        if delay is not None and not 0 <= delay < float("inf"):
            raise ValueError(f"Retry delay must be seconds from 0, not {delay!r}")
        self.delay_seconds = delay
        self.counts = counts


class Reject(Exception):  # noqa: N818
    """Raise in a handler to fail the task at once and for good, whatever retries are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delay before retry n (from 0) is uniform in [0, min(cap, base * factor ** n)]: "full jitter".

    Source: AWS Architecture Blog, "Exponential Backoff And Jitter": least total work of the schemes compared there.
    ``jitter=False`` waits the whole upper bound each time.
    """

    base_seconds: float = 1.0
    factor: float = 2.0
    cap_seconds: float = 900.0
    jitter: bool = True

    def __post_init__(self) -> None:
        numbers = (self.base_seconds, self.cap_seconds, self.factor)
        if not all(map(math.isfinite, numbers)) or min(numbers) < 0 or self.factor < 1:
            raise RegistrationError(
                "RetryPolicy needs base_seconds >= 0, cap_seconds >= 0 and factor >= 1, all finite"
            )

    def delay_seconds(
        self, retries_so_far: int, rng: random.Random, *, at_least: float | None = None
    ) -> float:
        """``at_least`` is what a server asked for (HTTP Retry-After); jitter is added on top of it, never below."""
        try:
            bound = min(self.cap_seconds, self.base_seconds * self.factor**retries_so_far)
        except OverflowError:
            bound = self.cap_seconds if self.base_seconds else 0.0
        delay = rng.uniform(0, bound) if self.jitter else bound
        if at_least is None:
            return delay
        return max(at_least, 0.0) + (rng.uniform(0, min(bound, 1.0)) if self.jitter else 0.0)
