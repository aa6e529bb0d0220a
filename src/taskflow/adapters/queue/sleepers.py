"""Who waits for a message, and who has to be woken for one: as many as needed, and never just to look."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import inf
from threading import Condition, RLock
from typing import Protocol

from taskflow.ports.queue import Selector

_LONGEST_WAIT_SECONDS = (
    3_600.0  # well below threading.TIMEOUT_MAX; the caller looks round and waits again
)


class Ready(Protocol):
    """What decides whom a message concerns."""

    @property
    def task(self) -> str: ...
    @property
    def priority(self) -> int: ...


class Sleeper:
    """One call of `dequeue` that has found nothing so far."""

    __slots__ = ("alarm_at", "condition", "max_messages", "roused", "selector")

    def __init__(self, condition: Condition, selector: Selector, max_messages: int) -> None:
        self.condition = condition
        self.selector = selector
        self.max_messages = max_messages
        self.roused = False
        self.alarm_at = inf

    def concerns(self, ready: Ready) -> bool:
        priorities = self.selector.priorities
        return (priorities is None or ready.priority in priorities) and self.selector.accepts(
            ready.task
        )

    def rouse(self) -> None:
        self.roused = True
        self.condition.notify()


class Sleepers:
    """The sleeping calls, and the lock they share with their queue. Every method is called with the lock held.

    One of them at a time, the keeper, also sets its alarm for the next moment at which a message becomes ready by
    itself (due, or back from a worker that let it expire); the others sleep until they are roused or their time is up.

    The lock is reentrant so that a signal handler may call `rouse_all` whatever its thread was doing.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._asleep: list[Sleeper] = []
        self._keeper: Sleeper | None = None

    def __len__(self) -> int:
        return len(self._asleep)

    def sleeper(self, selector: Selector, max_messages: int) -> Sleeper:
        return Sleeper(Condition(self.lock), selector, max_messages)

    def sleep(self, sleeper: Sleeper, seconds: float, *, now: float, alarm_at: float) -> float:
        """Wait until roused, for ``seconds`` at most. Returns how long it waited in vain: 0.0 if it was roused.

        ``alarm_at``: the next moment at which a message becomes ready by itself. May return earlier than it need.
        """
        seconds = min(seconds, _LONGEST_WAIT_SECONDS)
        if alarm_at < inf and (self._keeper is None or alarm_at < self._keeper.alarm_at):
            self._keeper = sleeper
            sleeper.alarm_at = alarm_at
            seconds = min(seconds, alarm_at - now)
        sleeper.roused = False
        self._asleep.append(sleeper)
        try:
            sleeper.condition.wait(seconds)
        finally:
            self._asleep.remove(sleeper)
            if self._keeper is sleeper:
                self._keeper = None
        return 0.0 if sleeper.roused else seconds

    def announce(self, ready: Sequence[Ready]) -> int:
        """These became ready: rouse as many sleepers as it takes to fetch them. Returns how many that were.

        Sleepers with the same selector share the work. Those with different ones are roused independently, because
        each may be the only one left for a message that the other leaves behind.
        """
        limit = sum(sleeper.max_messages for sleeper in self._asleep)
        unclaimed: dict[Selector, int] = {}
        roused = 0
        for sleeper in sorted(self._asleep, key=self._is_keeper):  # the keeper last: it has a task
            count = unclaimed.get(sleeper.selector)
            if count is None:
                count = sum(1 for _ in islice(filter(sleeper.concerns, ready), limit))
            if (
                count > 0 and not sleeper.roused
            ):  # one roused before is on its way to other messages
                sleeper.rouse()
                roused += 1
                count -= sleeper.max_messages
            unclaimed[sleeper.selector] = count
        return roused

    def watch(self, alarm_at: float) -> None:
        """See to it that somebody, if anybody sleeps, is up at ``alarm_at``."""
        keeper = self._keeper
        if alarm_at == inf or (keeper is not None and keeper.alarm_at <= alarm_at):
            return
        for sleeper in [keeper] if keeper is not None else self._asleep:
            if not sleeper.roused:
                sleeper.rouse()  # it will look round, and set its alarm if it goes on sleeping
                break

    def rouse_all(self) -> None:
        for sleeper in self._asleep:
            sleeper.rouse()

    def _is_keeper(self, sleeper: Sleeper) -> bool:
        return sleeper is self._keeper
