"""Between the receivers and the callers of `dequeue`: what has been received, who waits for it, and how long it stays.

One lock for all of it, that of the sleepers. No call to SQS is made here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from math import inf
from threading import Condition

from taskflow.adapters.queue.ordering import Ordering
from taskflow.adapters.queue.sleepers import Sleepers
from taskflow.adapters.queue.sqs.demand import Demand
from taskflow.adapters.queue.sqs.flights import Change, Flight, Flights
from taskflow.adapters.queue.sqs.limits import BATCH_ENTRIES
from taskflow.adapters.queue.sqs.names import LONG, priority_of
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Delivery, Selector

MOST_BUFFERED = 50  # of one priority: five batches
_UNWANTED_SECONDS = (
    1.0  # how long a message stays that nobody here asks for, or that those who wait do not accept
)
_HELD_SECONDS = 10.0  # how long any message stays
_SHARE = 1 / 6  # of the visibility timeout, which neither of these exceeds
_LONGEST_PARK_SECONDS = 300.0


class Intake:
    """Thread safe. Messages leave by `dequeue`, or by `sweep`, which says what goes back to SQS."""

    def __init__(
        self,
        queues: Iterable[int],
        *,
        visibility_timeout_seconds: float,
        starvation_every: int,
        park_seconds: float,
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        served = frozenset(queues)
        self._sleepers = Sleepers()
        self._lock = self._sleepers.lock
        self._ordering: Ordering[Delivery] = Ordering(
            map(int, TaskPriority), starvation_every=starvation_every
        )
        self._flights = Flights()
        self._buffered: dict[str, Flight] = {}
        self._demand = Demand(map(priority_of, served))
        self._calls = {queue: Condition(self._lock) for queue in served}
        self._visibility_seconds = visibility_timeout_seconds
        self._unwanted_seconds = min(_UNWANTED_SECONDS, _SHARE * visibility_timeout_seconds)
        self._held_seconds = min(_HELD_SECONDS, _SHARE * visibility_timeout_seconds)
        self._park_seconds = park_seconds
        self._monotonic = monotonic
        self._rng = rng
        self._wakes = 0
        self.is_closed = False

    # --- for receivers ----------------------------------------------------------------------------

    def wanted(self, queue: int) -> int:
        """How many to receive now: waits until there is demand. 0: the queue is closed."""
        with self._lock:
            while not self.is_closed:
                if (count := self._wanted(priority_of(queue))) > 0:
                    return count
                self._calls[queue].wait()
            return 0

    def arrived(self, deliveries: Sequence[Delivery], queue: int) -> list[Delivery]:
        """Take in what was just received from ``queue``. Returns what must go back, because all was closed since."""
        with self._lock:
            if self.is_closed:
                return list(deliveries)
            now = self._monotonic()
            hidden_until = now + self._visibility_seconds
            for delivery in deliveries:
                flight = Flight(delivery, queue, now, hidden_until)
                self._flights.add(flight)
                self._buffered[delivery.receipt] = flight
                self._ordering.add(delivery)
            self._sleepers.announce(deliveries)
        return []

    # --- for workers ------------------------------------------------------------------------------

    def dequeue(
        self, max_messages: int, timeout_seconds: float, selector: Selector
    ) -> list[Delivery]:
        """Up to ``max_messages`` that ``selector`` accepts; waits for the first one."""
        with self._lock:
            now = self._monotonic()
            give_up_at = now + timeout_seconds
            wakes = self._wakes
            priorities = self._demand.among(selector.priorities)
            sleeper = None
            taken: list[Delivery] = []
            try:
                while not self.is_closed and wakes == self._wakes:
                    if taken := self._take(max_messages, selector, now):
                        break
                    if now >= give_up_at:
                        break
                    sleeper = sleeper or self._sleepers.sleeper(selector, max_messages)
                    self._demand.begin(sleeper, priorities)
                    try:
                        self._call(priorities)
                        self._sleepers.sleep(sleeper, give_up_at - now, now=now, alarm_at=inf)
                    finally:
                        self._demand.end(sleeper)
                    now = self._monotonic()
            except BaseException:
                self._sleepers.rouse_all()  # what this one was roused for is theirs now
                raise
            if not self.is_closed and wakes == self._wakes:
                self._demand.asked(priorities, max_messages - len(taken), now)
                self._call(priorities)
            return taken

    def end(self, receipts: Sequence[str]) -> list[Flight]:
        """Let go of these; returns those that were still this process's."""
        with self._lock:
            return self._flights.end(receipts, self._monotonic())

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        with self._lock:
            now = self._monotonic()
            self._flights.extend(receipts, now, now + seconds)

    def lost(self, receipts: Iterable[str]) -> None:
        """SQS says that these are somebody else's."""
        with self._lock:
            self._flights.end(receipts, inf)

    def wake(self) -> None:
        """May be called by a signal handler: the lock is reentrant."""
        with self._lock:
            self._wakes += 1
            self._sleepers.rouse_all()

    # --- for the keeper ---------------------------------------------------------------------------

    def sweep(self, *, ahead_seconds: float) -> dict[int, list[Change]]:
        """What SQS has to be told, by queue: visibility that is about to run out, and messages that go back.

        Back goes what nobody here can start soon: it may keep another worker busy. What waits here for a task that
        callers exclude goes back for a while, or it would be received again at once, in place of others.
        """
        with self._lock:
            now = self._monotonic()
            changes = self._flights.due(now, ahead_seconds=ahead_seconds)
            back = [
                (flight, until)
                for flight in self._buffered.values()
                if (until := self._back_until(flight, now)) is not None
            ]
            if back:
                gone = {flight.delivery.receipt for flight, _ in back}
                self._ordering.remove(lambda delivery: delivery.receipt in gone)
                for flight, until in back:
                    del self._buffered[flight.delivery.receipt]
                    for ended in self._flights.end([flight.delivery.receipt], now):
                        change = Change(flight.delivery.receipt, until, ended.hidden_until)
                        changes.setdefault(flight.queue, []).append(change)
                self._call({flight.delivery.priority for flight, _ in back})
            return changes

    def close(self) -> list[Flight]:
        """Nothing comes in or goes out any more. Returns what this process still held."""
        with self._lock:
            self.is_closed = True
            self._sleepers.rouse_all()
            for condition in self._calls.values():
                condition.notify_all()
            self._buffered.clear()
            return self._flights.everything(self._monotonic())

    # --- inside -----------------------------------------------------------------------------------

    def _wanted(self, priority: int) -> int:
        buffered = self._ordering.count(priority)
        missing = self._demand.waiting(priority)  # what is buffered, they do not accept
        if missing == 0:
            missing = self._demand.lately(priority, self._monotonic()) - buffered
        return min(missing, BATCH_ENTRIES, MOST_BUFFERED - buffered)

    def _call(self, priorities: Iterable[int]) -> None:
        for priority in priorities:
            if self._wanted(priority) > 0:
                for queue in (priority, priority + LONG):
                    if (condition := self._calls.get(queue)) is not None:
                        condition.notify()

    def _take(self, count: int, selector: Selector, now: float) -> list[Delivery]:
        taken: list[Delivery] = []
        while len(taken) < count:
            found = self._ordering.take(count - len(taken), selector)
            if not found:
                break
            for _, delivery in found:
                del self._buffered[delivery.receipt]
                # One whose time ran out here, in a process that was stopped for long, is somebody else's by now.
                if self._flights.get(delivery.receipt, now) is not None:
                    taken.append(delivery)
        return taken

    def _back_until(self, flight: Flight, now: float) -> float | None:
        age = now - flight.received_at
        if age < self._unwanted_seconds:
            return None
        if self._demand.waiting(flight.delivery.priority):
            received = min(flight.delivery.receive_count, 16)
            longest = min(_LONGEST_PARK_SECONDS, self._park_seconds * 2.0 ** (received - 1))
            return now + longest * self._rng.uniform(0.5, 1.0)
        is_unwanted = self._demand.idle_seconds(now) >= self._unwanted_seconds
        return now if is_unwanted or age >= self._held_seconds else None
