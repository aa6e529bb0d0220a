"""What this process holds: messages received, until when SQS hides them, and until when somebody wants that.

Not thread safe: `Intake` holds its lock around every call. Moments are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskflow.adapters.queue.sqs.limits import MAX_VISIBILITY_SECONDS
from taskflow.ports.queue import Delivery

_SPARE_SECONDS = 5.0  # before SQS's longest visibility, for the way there


class Flight:
    """One received message. ``hidden_until`` is what SQS knows, ``wanted_until`` what the worker last asked for."""

    __slots__ = ("delivery", "hidden_until", "queue", "received_at", "wanted_until")

    def __init__(
        self, delivery: Delivery, queue: int, received_at: float, hidden_until: float
    ) -> None:
        self.delivery = delivery
        self.queue = queue
        self.received_at = received_at
        self.hidden_until = hidden_until
        self.wanted_until: float | None = None


class Change(NamedTuple):
    """To be told to SQS: hide it until then, from ``give_up_at`` on pointless, as it is visible again by itself."""

    receipt: str
    until: float
    give_up_at: float


class Flights:
    """By receipt. One whose time has run out is gone: SQS gives it to somebody else."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def add(self, flight: Flight) -> None:
        self._flights[flight.delivery.receipt] = flight

    def get(self, receipt: str, now: float) -> Flight | None:
        """None if the receipt is unknown or its time has run out."""
        flight = self._flights.get(receipt)
        if flight is not None and flight.hidden_until <= now:
            del self._flights[receipt]
            return None
        return flight

    def end(self, receipts: Iterable[str], now: float) -> list[Flight]:
        """Take out those of ``receipts`` that are still valid."""
        ended = []
        for receipt in receipts:
            flight = self._flights.pop(receipt, None)
            if flight is not None and flight.hidden_until > now:
                ended.append(flight)
        return ended

    def everything(self, now: float) -> list[Flight]:
        """Take out all there is."""
        return self.end(list(self._flights), now)

    def extend(self, receipts: Sequence[str], now: float, until: float) -> None:
        """Noted, and told to SQS when it is time: `due`. A worker asks every second, SQS need not hear that often."""
        for receipt in receipts:
            if (flight := self.get(receipt, now)) is not None:
                latest = flight.received_at + MAX_VISIBILITY_SECONDS - _SPARE_SECONDS
                flight.wanted_until = min(until, latest)

    def due(self, now: float, *, ahead_seconds: float) -> dict[int, list[Change]]:
        """What SQS has to be told now, by queue, because it hides a message for ``ahead_seconds`` more or less.

        When one of a queue is due, those that will be soon go along: a batch costs no more than one. Forgets what
        nobody extended.
        """
        changes: dict[int, list[Change]] = {}
        soon = now + 1.5 * ahead_seconds
        pressing: set[int] = set()
        for receipt, flight in list(self._flights.items()):
            hidden_until, wanted = flight.hidden_until, flight.wanted_until
            if hidden_until <= now:
                del self._flights[receipt]
            elif wanted is not None and wanted != hidden_until:
                act_at = min(wanted, hidden_until)
                if act_at <= soon:
                    change = Change(receipt, wanted, hidden_until)
                    changes.setdefault(flight.queue, []).append(change)
                    if act_at <= now + ahead_seconds:
                        pressing.add(flight.queue)
        due = {queue: changes[queue] for queue in pressing}
        for told in due.values():
            for receipt, until, _ in told:
                self._flights[receipt].hidden_until = until
        return due
