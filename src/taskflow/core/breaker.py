"""The circuit breaker: stops attempts at a dependency that keeps failing, and finds out when it is back.

Closed: attempts pass; failures in a row are counted. Open: none passes, for a set time. Half-open: one attempt at a
time passes as a probe; its success closes the circuit, its failure opens it again.
(M. Nygard, "Release It!", chapter "Circuit Breaker".)
"""

from __future__ import annotations

from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Pure: moments come in as monotonic seconds. Not thread safe, the caller holds a lock.

    An admitted attempt gets a ticket and brings it back with its outcome. Tickets from before the circuit opened are
    stale: what was under way then says nothing about the dependency now.
    """

    def __init__(self, *, failures: int, open_seconds: float) -> None:
        self._failures_to_open = failures
        self._open_seconds = open_seconds
        self._failures = 0
        self._half_open_at: float | None = None  # None: closed
        self._era = 0  # grows each time the circuit opens; the ticket of whatever is admitted until it does again
        self._probing = False

    def state(self, now: float) -> BreakerState:
        if self._half_open_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now >= self._half_open_at else BreakerState.OPEN

    def would_admit(self, now: float) -> bool:
        match self.state(now):
            case BreakerState.CLOSED:
                return True
            case BreakerState.HALF_OPEN:
                return not self._probing
            case BreakerState.OPEN:
                return False

    def admit(self, now: float) -> int | None:
        """A ticket for one attempt, or None. In the half-open state the attempt is the probe."""
        if not self.would_admit(now):
            return None
        if self._half_open_at is not None:
            self._probing = True
        return self._era

    def is_valid(self, ticket: int) -> bool:
        """False once the circuit has opened since the ticket was given: the attempt should not start."""
        return ticket == self._era

    def succeeded(self, ticket: int) -> None:
        if ticket == self._era:
            self._failures = 0
            self._half_open_at = None
            self._probing = False

    def failed(self, ticket: int, now: float) -> None:
        """Of what says something about the dependency: transient errors and timeouts."""
        if ticket != self._era:
            return
        self._failures += 1
        if self._half_open_at is not None or self._failures >= self._failures_to_open:
            self._failures = 0
            self._half_open_at = now + self._open_seconds
            self._probing = False
            self._era += 1

    def released(self, ticket: int) -> None:
        """The attempt did not start, or ended in a way that says nothing: the next one may be the probe."""
        if ticket == self._era:
            self._probing = False

    def half_opens_in(self, now: float) -> float | None:
        """Seconds until an open circuit lets a probe pass; None when it is not open."""
        if self.state(now) is not BreakerState.OPEN:
            return None
        assert self._half_open_at is not None
        return self._half_open_at - now
