"""TaskQueue inside one process: heaps, a lock, and threads that sleep until there is something for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskflow.adapters.queue.dead_letters import DeadLetters
from taskflow.adapters.queue.hidden import Delayed, Flight, InFlight, Later, Waiting, make
from taskflow.adapters.queue.ordering import Ordering
from taskflow.adapters.queue.sleepers import Sleepers
from taskflow.core.task import TaskPriority
from taskflow.ports.clock import Clock
from taskflow.ports.queue import (
    ANYTHING,
    Delivery,
    EnqueueFailure,
    Message,
    QueueDepth,
    Selector,
)

PRIORITIES = frozenset(map(int, TaskPriority))


class LocalTaskQueue:
    """TaskQueue in the memory of this process, rebuilt from the store at start. Thread safe.

    Order and the bound on starvation: see `Ordering`. A task waits here at most once: enqueueing it again changes
    nothing, unless the new message is due earlier than the delayed one that is known (while it is in flight it may
    wait as well: for its retry). A message that is nacked without delay, or not acked in time, comes next among those
    of its tenant, unless its task waits anyway.

    ``max_size`` (0: no limit) bounds what waits, delayed messages included; what comes back from a worker is always
    taken. With a clock that tells when it is moved (`FakeClock.on_advance`) sleeping calls look at it again.
    """

    durable = False
    remote = False

    def __init__(
        self,
        clock: Clock,
        *,
        visibility_timeout_seconds: float,
        starvation_every: int = 32,
        max_size: int = 0,
        max_delay_seconds: float = 900.0,
    ) -> None:
        self.max_delay_seconds = max_delay_seconds
        self.visibility_timeout_seconds = visibility_timeout_seconds
        self.dead_letters = DeadLetters()
        self._monotonic = clock.monotonic
        self._max_size = max_size
        self._ordering: Ordering[Waiting] = Ordering(PRIORITIES, starvation_every=starvation_every)
        self._delayed = Delayed()
        self._in_flight = InFlight()
        # Where the newest message of a task is: ready, delayed or handed out.
        self._known: dict[str, Waiting | Later | Delivery] = {}
        self._sleepers = Sleepers()
        self._lock = self._sleepers.lock
        self._wakes = 0
        self._closed = False
        if (on_advance := getattr(clock, "on_advance", None)) is not None:
            on_advance(self._look_at_the_clock)

    @property
    def waiting_count(self) -> int:
        """Messages that are ready or delayed."""
        with self._lock:
            return len(self._ordering) + len(self._delayed)

    def known(self, tenant_id: str, task_id: str) -> bool:
        """Whether a message of this task is ready, delayed or in flight here. O(1), without a lock."""
        known = self._known.get(task_id)
        if isinstance(known, Later):
            known = known.waiting
        return known is not None and known.tenant_id == tenant_id

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Make each message receivable after its delay. Returns those that were not accepted."""
        failures: list[EnqueueFailure] = []
        ready: list[Waiting] = []
        with self._lock:
            now = self._monotonic()
            room = self._room()
            for message in messages:
                task_id, tenant_id, task, priority, delay_seconds, _, _ = message
                if (
                    room <= 0
                    or delay_seconds > self.max_delay_seconds
                    or priority not in PRIORITIES
                ) and (reason := self._refusal(message, room)) is not None:
                    failures.append(EnqueueFailure(message, reason))
                    continue
                waiting = make(Waiting, (task_id, tenant_id, task, priority, 0))
                room -= self._place(waiting, now, delay_seconds, None, ready)
            self._tell(ready)
        return failures

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """Hide and return up to ``max_messages``; waits up to ``timeout_seconds`` for the first one."""
        with self._lock:
            now = self._monotonic()
            wakes = self._wakes
            give_up_at = now + timeout_seconds
            sleeper = None
            try:
                while not self._closed and wakes == self._wakes:
                    self._bring_back(now)
                    if taken := self._ordering.take(max_messages, selector):
                        return self._hand_out(taken, now)
                    # Waiting in vain counts as well: a clock that is moved by hand must not hold callers for ever.
                    left = min(give_up_at - now, timeout_seconds)
                    if left <= 0:
                        break
                    sleeper = sleeper or self._sleepers.sleeper(selector, max_messages)
                    alarm_at = self._next_at()
                    timeout_seconds -= self._sleepers.sleep(
                        sleeper, left, now=now, alarm_at=alarm_at
                    )
                    now = self._monotonic()
                return []
            except BaseException:
                self._sleepers.rouse_all()  # what this one was roused for is theirs now
                raise
            finally:
                if self._sleepers:
                    self._sleepers.watch(self._next_at())

    def hand_through(self, message: Message, selector: Selector) -> Delivery | None:
        """Hand it out without letting it wait, if nothing that waits has to go before it; None: enqueue it."""
        with self._lock:
            now = self._monotonic()
            self._bring_back(now)
            # With nothing here and nobody waiting, somebody has just taken what was before it, and is not done with it.
            if self._closed or not (self._ordering or self._sleepers):
                return None
            waiting = Waiting(message.task_id, message.tenant_id, message.task, message.priority, 0)
            position = self._ordering.hand_through(waiting, selector)
            if position is None:
                return None
            [delivery] = self._hand_out([(position, waiting)], now)
            return delivery

    def ack(self, receipts: Sequence[str]) -> None:
        """Forget these messages. Unknown or stale receipts are ignored."""
        with self._lock:
            for receipt in receipts:
                self._forget(receipt)

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        """Keep these messages hidden for ``seconds`` from now. Stale receipts are ignored."""
        with self._lock:
            self._in_flight.extend(receipts, self._monotonic() + seconds)
            self._tell([])

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        """Make these messages visible again after ``delay_seconds``. Unknown or stale receipts are ignored."""
        ready: list[Waiting] = []
        with self._lock:
            now = self._monotonic()
            for receipt in receipts:
                if (flight := self._in_flight.end(receipt)) is not None:
                    self._return(flight, now, delay_seconds, ready)
            self._tell(ready)

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        """Put messages away that no worker can make sense of: into ``dead_letters``, with the reason."""
        with self._lock:
            deliveries = [
                delivery for receipt in receipts if (delivery := self._forget(receipt)) is not None
            ]
        self.dead_letters.add(deliveries, reason)

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        """Messages by priority."""
        with self._lock:
            self._bring_back(self._monotonic())
            ready, delayed, in_flight = self._ordering, self._delayed, self._in_flight
            return {
                p: QueueDepth(ready.count(p), delayed.counts[p], in_flight.counts[p])
                for p in TaskPriority
            }

    def wake(self) -> None:
        """Make every `dequeue` that waits now return early, with nothing. May be called by a signal handler."""
        with self._lock:
            self._wakes += 1
            self._sleepers.rouse_all()

    def close(self) -> None:
        """Give back what is hidden here; further calls of `dequeue` return nothing, and nothing more is accepted."""
        with self._lock:
            self._closed = True
            for flight in self._in_flight.everything():
                self._return(flight, 0.0, 0.0, [])
            self._sleepers.rouse_all()

    def _room(self) -> int:
        if self._closed:
            return 0
        if not self._max_size:
            return 2**63
        return self._max_size - len(self._ordering) - len(self._delayed)

    def _refusal(self, message: Message, room: int) -> str | None:
        if self._closed:
            return "the queue is closed"
        if message.priority not in PRIORITIES:
            return f"there is no priority {message.priority}"
        if message.delay_seconds > self.max_delay_seconds:
            return f"delayed by more than {self.max_delay_seconds:g} s"
        if room <= 0 and isinstance(self._known.get(message.task_id), Delivery | None):
            return f"{self._max_size} messages wait already"
        return None

    def _place(
        self,
        waiting: Waiting,
        now: float,
        delay_seconds: float,
        position: int | None,
        ready: list[Waiting],
    ) -> int:
        """Among the delayed, or the ready and appended to ``ready``, unless its task waits anyway.

        ``position`` of a message that comes back. Returns by how many more messages wait now.
        """
        known = self._known.get(waiting.task_id)
        more = 1
        if known is not None and not isinstance(known, Delivery):
            if isinstance(known, Waiting):
                if known.tenant_id == waiting.tenant_id:
                    return 0
            elif known.waiting.tenant_id == waiting.tenant_id:
                if known.due_at <= now + delay_seconds:
                    return 0
                self._delayed.remove(known)
                more = 0
        if delay_seconds > 0:
            self._known[waiting.task_id] = self._delayed.add(waiting, now + delay_seconds)
            return more
        if position is None:
            self._ordering.add(waiting)
        else:
            self._ordering.put_back(waiting, position)
        self._known[waiting.task_id] = waiting
        ready.append(waiting)
        return more

    def _hand_out(self, taken: Sequence[tuple[int, Waiting]], now: float) -> list[Delivery]:
        deliveries = self._in_flight.start(taken, now + self.visibility_timeout_seconds)
        known = self._known
        for delivery in deliveries:
            known[delivery.task_id] = delivery
        return deliveries

    def _forget(self, receipt: str) -> Delivery | None:
        flight = self._in_flight.end(receipt)
        if flight is None:
            return None
        task_id = flight.delivery.task_id
        if self._known.get(task_id) is flight.delivery:
            del self._known[task_id]
        return flight.delivery

    def _return(
        self, flight: Flight, now: float, delay_seconds: float, ready: list[Waiting]
    ) -> None:
        task_id, tenant_id, task, priority, _, received, _ = flight.delivery
        waiting = Waiting(task_id, tenant_id, task, priority, received)
        self._place(waiting, now, delay_seconds, flight.position, ready)

    def _bring_back(self, now: float) -> None:
        """Make ready what became due, and what was not acked in time."""
        ready: list[Waiting] = []
        for later in self._delayed.due(now):
            waiting = later.waiting
            self._ordering.add(waiting)
            if self._known.get(waiting.task_id) is later:
                self._known[waiting.task_id] = waiting
            ready.append(waiting)
        for flight in self._in_flight.expired(now):
            self._return(flight, now, 0.0, ready)
        if ready and self._sleepers:
            self._sleepers.announce(ready)

    def _tell(self, ready: Sequence[Waiting]) -> None:
        """Rouse who is needed for what became ready, and for what will."""
        if self._sleepers:
            if ready:
                self._sleepers.announce(ready)
            self._sleepers.watch(self._next_at())

    def _next_at(self) -> float:
        return min(self._delayed.next_at(), self._in_flight.next_at())

    def _look_at_the_clock(self) -> None:
        with self._lock:
            self._sleepers.rouse_all()
