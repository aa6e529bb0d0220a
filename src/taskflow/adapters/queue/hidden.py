"""Messages of the local queue that are not for the taking: delayed until they are due, or in flight until acked.

Not thread safe: the queue holds its lock around every call. Moments are monotonic seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import NamedTuple

from taskflow.ports.queue import Delivery

_STALE_ALLOWED = 256  # below this many, clearing out costs more than it frees
make = (
    tuple.__new__
)  # a NamedTuple's own constructor takes twice as long, and this is done for every message


class Waiting(NamedTuple):
    """A message in the queue; ``received``: how often it was handed out before."""

    task_id: str
    tenant_id: str
    task: str
    priority: int
    received: int


class Later(NamedTuple):
    """A message that is not yet due. ``number`` breaks ties, first come first served."""

    due_at: float
    number: int
    waiting: Waiting


class Delayed:
    """A heap by due time. Removal is lazy: removed entries stay in the heap until they come up or are too many."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()  # by priority
        self._heap: list[Later] = []
        self._removed: set[int] = set()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._heap) - len(self._removed)

    def add(self, waiting: Waiting, due_at: float) -> Later:
        later = Later(due_at, next(self._numbers), waiting)
        heappush(self._heap, later)
        self.counts[waiting.priority] += 1
        return later

    def remove(self, later: Later) -> None:
        """``later`` must be in here."""
        self._removed.add(later.number)
        self.counts[later.waiting.priority] -= 1
        if len(self._removed) > max(_STALE_ALLOWED, len(self)):
            self._heap = [entry for entry in self._heap if entry.number not in self._removed]
            heapify(self._heap)
            self._removed.clear()

    def due(self, now: float) -> list[Later]:
        """Take out everything that is due, in order."""
        due = []
        while self._heap and self._heap[0].due_at <= now:
            later = heappop(self._heap)
            if later.number in self._removed:
                self._removed.remove(later.number)
            else:
                self.counts[later.waiting.priority] -= 1
                due.append(later)
        return due

    def next_at(self) -> float:
        """When the next one is due; infinity if there is none."""
        while self._heap and self._heap[0].number in self._removed:
            self._removed.remove(heappop(self._heap).number)
        return self._heap[0].due_at if self._heap else inf


class Flight(NamedTuple):
    """A message that was handed out from ``position`` and comes back at ``deadline``."""

    deadline: float
    position: int
    delivery: Delivery


class InFlight:
    """Deliveries by receipt, and a heap of deadlines: one entry a batch, stale as soon as its receipts are gone."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()  # by priority
        self._flights: dict[str, Flight] = {}
        self._deadlines: list[tuple[float, int, Sequence[str]]] = []
        self._listed = 0  # receipts in all the batches together
        self._receipts = count(1)
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._flights)

    def start(self, taken: Sequence[tuple[int, Waiting]], deadline: float) -> list[Delivery]:
        """Hand these out until ``deadline``."""
        deliveries: list[Delivery] = []
        receipts: list[str] = []
        flights, counts = self._flights, self.counts
        for position, (task_id, tenant_id, task, priority, received) in taken:
            receipt = str(next(self._receipts))
            delivery = make(
                Delivery, (task_id, tenant_id, task, priority, receipt, received + 1, None)
            )
            flights[receipt] = make(Flight, (deadline, position, delivery))
            counts[priority] += 1
            deliveries.append(delivery)
            receipts.append(receipt)
        self._list(deadline, receipts)
        return deliveries

    def end(self, receipt: str) -> Flight | None:
        """Take it out; None if the receipt is unknown or stale."""
        flight = self._flights.pop(receipt, None)
        if flight is not None:
            self.counts[flight.delivery.priority] -= 1
        return flight

    def extend(self, receipts: Sequence[str], deadline: float) -> None:
        flights = self._flights
        found = [receipt for receipt in receipts if receipt in flights]
        for receipt in found:
            flights[receipt] = flights[receipt]._replace(deadline=deadline)
        self._list(deadline, found)

    def expired(self, now: float) -> list[Flight]:
        """Take out everything whose deadline has come, in the order it was handed out."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, receipts = heappop(self._deadlines)
            self._listed -= len(receipts)
            for receipt in receipts:
                flight = self._flights.get(receipt)
                if flight is not None and flight.deadline <= now:
                    self.end(receipt)
                    expired.append(flight)
        return expired

    def everything(self) -> list[Flight]:
        """Take out all there is."""
        return self.expired(inf)

    def next_at(self) -> float:
        """The next deadline; infinity if nothing is in flight."""
        while self._deadlines:
            deadline, _, receipts = self._deadlines[0]
            if any(self._ends_by(receipt, deadline) for receipt in receipts):
                return deadline
            heappop(self._deadlines)
            self._listed -= len(receipts)
        return inf

    def _ends_by(self, receipt: str, deadline: float) -> bool:
        flight = self._flights.get(receipt)
        return flight is not None and flight.deadline <= deadline

    def _list(self, deadline: float, receipts: Sequence[str]) -> None:
        if not receipts:
            return
        heappush(self._deadlines, (deadline, next(self._numbers), receipts))
        self._listed += len(receipts)
        if self._listed > _STALE_ALLOWED + 2 * len(self._flights):
            by_deadline: dict[float, list[str]] = {}
            for receipt, flight in self._flights.items():
                by_deadline.setdefault(flight.deadline, []).append(receipt)
            self._deadlines = [
                (deadline, next(self._numbers), batch) for deadline, batch in by_deadline.items()
            ]
            heapify(self._deadlines)
            self._listed = len(self._flights)
