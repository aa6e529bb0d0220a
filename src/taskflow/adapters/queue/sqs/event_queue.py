"""TaskQueue over the SQS messages that Lambda hands to a function, one event at a time."""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from taskflow.adapters.queue.sqs.envelope import decode
from taskflow.adapters.queue.sqs.errors import UndecodableMessageError
from taskflow.adapters.queue.sqs.event_messages import (
    LONGEST_SECONDS,
    EventMessages,
    Return,
    queue_of,
)
from taskflow.adapters.queue.sqs.names import DEAD_SUFFIX
from taskflow.core.task import TaskPriority
from taskflow.logs import get_logger
from taskflow.ports.queue import (
    ANYTHING,
    Delivery,
    EnqueueFailure,
    Message,
    QueueDepth,
    Selector,
    TaskQueue,
)

log = get_logger(__name__)

_HERE_SECONDS = 2.0  # a shorter delay is waited for here: it is cheaper than another receive
_LATER_SECONDS = (
    10.0  # what nobody here could run comes back after this, then after twice as long …
)
_MOST_LATER_SECONDS = 900.0


class _Held(NamedTuple):
    """A message of the event. ``visible_at`` (monotonic): given back until then; None: it may be run here."""

    delivery: Delivery
    record: Mapping[str, Any]
    visible_at: float | None = None


class _Letter(NamedTuple):
    """A message for the dead-letter queue."""

    record: Mapping[str, Any]
    reason: str


class SQSEventQueue:
    """Thread safe. ``sender`` is the queue that messages of retries and released tasks go to.

    An ack costs nothing: Lambda deletes what it is not told to keep. `extend` has nothing to do: Lambda wants the
    queue's visibility timeout to be longer than the function may take, and advises six times as long.
    """

    def __init__(
        self, sender: TaskQueue, messages: EventMessages, *, monotonic: Callable[[], float]
    ) -> None:
        self.max_delay_seconds = sender.max_delay_seconds
        self.durable = sender.durable
        self.remote = sender.remote
        self._sender = sender
        self._messages = messages
        self._monotonic = monotonic
        self._changed = threading.Condition(threading.RLock())
        self._wakes = 0
        self._held: dict[str, _Held] = {}  # by receipt: not acked so far
        self._ready: dict[str, float] = {}  # receipt → from when on it may be handed out
        self._letters: list[_Letter] = []
        self._given_up = True
        self._stuck = False  # nobody here takes what is left

    # --- the event ------------------------------------------------------------------------------

    def begin(self, records: Sequence[Mapping[str, Any]]) -> None:
        held: dict[str, _Held] = {}
        letters: list[_Letter] = []
        for record in records:
            try:
                delivery = decode(record)
            except UndecodableMessageError as exc:
                letters.append(_Letter(record, exc.detail))
                continue
            held[delivery.receipt] = _Held(delivery, record)
        with self._changed:
            self._held, self._letters = held, letters
            self._ready = dict.fromkeys(held, -math.inf)
            self._given_up = self._stuck = False
            self._changed.notify_all()

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(self._is_settled, max(0.0, timeout_seconds))

    def give_up(self) -> None:
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def end(self, timeout_seconds: float) -> list[str]:
        with self._changed:
            now = self._monotonic()
            is_later = self._given_up or self._stuck
            letters = self._letters
            kept: list[Return] = []
            for held in self._held.values():
                if held.visible_at is not None:
                    seconds = max(0.0, held.visible_at - now)
                else:
                    seconds = _later(held.delivery) if is_later else 0.0
                kept.append(_return(held.record, seconds))
            self._held, self._ready, self._letters = {}, {}, []
            self._given_up = True
        put_away = self._settle(kept, letters, timeout_seconds)
        ids = [back.message_id for back in kept]
        return ids + [id_ for letter in letters if (id_ := _id(letter.record)) not in put_away]

    def _settle(
        self, kept: Sequence[Return], letters: Sequence[_Letter], timeout_seconds: float
    ) -> frozenset[str]:
        """Ids of the letters that are where they should be. In a thread: an SQS that hangs would be waited for until
        Lambda kills the function, and then all of the event comes back, also what is done."""
        put_away: list[str] = []

        def settle() -> None:
            staying: list[Return] = []
            for letter in letters:
                if self._messages.put_away(*letter):
                    put_away.append(_id(letter.record))
                else:
                    staying.append(_staying(letter.record))
            self._messages.show_again([*kept, *staying])

        if kept or letters:
            settling = threading.Thread(
                target=contextvars.copy_context().run, args=[settle], daemon=True
            )
            settling.start()
            settling.join(max(0.0, timeout_seconds))
            if settling.is_alive():
                log.error("queue.hangs", messages=len(kept) + len(letters))
        return frozenset(put_away)

    def _is_settled(self) -> bool:
        """What is handed out is neither ready nor given back."""
        out = any(h.visible_at is None and r not in self._ready for r, h in self._held.items())
        return not out and (self._given_up or self._stuck or not self._ready)

    # --- the queue ------------------------------------------------------------------------------

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        deadline = self._monotonic() + timeout_seconds
        with self._changed:
            wakes = self._wakes
            while self._wakes == wakes:
                now = self._monotonic()
                found, due_at = self._take(max_messages, selector, now)
                if found:
                    return found
                if (seconds := min(deadline, due_at) - now) <= 0:
                    break
                self._changed.wait(min(seconds, threading.TIMEOUT_MAX))
        return []

    def _take(
        self, max_messages: int, selector: Selector, now: float
    ) -> tuple[list[Delivery], float]:
        """What may be handed out now, most urgent first, or when there may be something."""
        if self._given_up:
            return [], math.inf
        wanted = [
            self._held[receipt].delivery
            for receipt in self._ready
            if _accepts(selector, self._held[receipt].delivery)
        ]
        due = [d for d in wanted if self._ready[d.receipt] <= now]
        if due:
            due = sorted(due, key=lambda delivery: delivery.priority)[:max_messages]
            for delivery in due:
                del self._ready[delivery.receipt]
            return due, now
        if wanted:
            return [], min(self._ready[delivery.receipt] for delivery in wanted)
        # The selector was made after the last attempt here had ended (`ack` wakes), so it will not change any more.
        if self._ready and not self._stuck and self._nothing_is_out():
            self._stuck = True
            self._changed.notify_all()
        return [], math.inf

    def _nothing_is_out(self) -> bool:
        return all(r in self._ready or h.visible_at is not None for r, h in self._held.items())

    def ack(self, receipts: Sequence[str]) -> None:
        with self._changed:
            for receipt in receipts:
                self._held.pop(receipt, None)
                self._ready.pop(receipt, None)
            if self._nothing_is_out():
                self._wakes += 1  # whoever was left because of what ran may be taken now
            self._changed.notify_all()

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        """Nothing to do; see above."""

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        """After a short delay they may be handed out here again, after a longer one wherever they are received."""
        with self._changed:
            visible_at = self._monotonic() + delay_seconds
            for receipt in receipts:
                held = self._held.get(receipt)
                if held is None:
                    continue
                if delay_seconds <= _HERE_SECONDS:
                    self._ready[receipt] = visible_at
                else:
                    self._ready.pop(receipt, None)
                    self._held[receipt] = held._replace(visible_at=visible_at)
            self._changed.notify_all()

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        """At the end of the event."""
        with self._changed:
            for receipt in receipts:
                if (held := self._held.pop(receipt, None)) is not None:
                    self._letters.append(_Letter(held.record, reason))
            self.ack(receipts)

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        return self._sender.enqueue(messages)

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        """Of the queues that it sends to."""
        return self._sender.depths()

    def wake(self) -> None:
        with self._changed:
            self._wakes += 1
            self._changed.notify_all()

    def close(self) -> None:
        self.give_up()
        self._sender.close()


def _accepts(selector: Selector, delivery: Delivery) -> bool:
    return selector.accepts(delivery.task) and (
        selector.priorities is None or delivery.priority in selector.priorities
    )


def _later(delivery: Delivery) -> float:
    doubled: float = _LATER_SECONDS * 2 ** min(delivery.receive_count - 1, 10)
    return min(_MOST_LATER_SECONDS, doubled)


def _id(record: Mapping[str, Any]) -> str:
    return str(record["messageId"])


def _return(record: Mapping[str, Any], seconds: float) -> Return:
    return Return(queue_of(record), record["receiptHandle"], _id(record), seconds)


def _staying(record: Mapping[str, Any]) -> Return:
    """What cannot be put away: in a dead-letter queue people shall look at it."""
    is_dead = queue_of(record).endswith(DEAD_SUFFIX)
    return _return(record, LONGEST_SECONDS if is_dead else _LATER_SECONDS)
