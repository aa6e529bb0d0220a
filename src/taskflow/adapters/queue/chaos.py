"""A queue that misbehaves on purpose, within what SQS may do: for tests, and to see what one's handlers bear."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskflow import logs
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import (
    ANYTHING,
    Delivery,
    EnqueueFailure,
    Message,
    QueueDepth,
    Selector,
    TaskQueue,
)

log = logs.get_logger(__name__)

REASON = "chaos: the send failed"
_COPY = "chaos#"  # begins receipts that were made up here, and mean nothing to the queue inside
_MOST_KEPT = 1_000  # duplicates that wait for their moment


@dataclass(frozen=True, slots=True)
class ChaosRates:
    """How often, from 0 to 1. ``longest_delay_seconds`` for what is delayed, when it is sent or when it is received."""

    fail_send: float = 0.1
    lose_answer: float = 0.05  # sent, but reported as failed: it is sent once more
    delay: float = 0.1
    duplicate: float = 0.15
    reorder: float = 0.5
    drop_ack: float = 0.1
    longest_delay_seconds: float = 0.5


class ChaosQueue:
    """TaskQueue around ``inner``, with its promises but these: a message may come again at any time, also after it was
    acked, late, in any order; a send may fail, or happen though it is said to have failed.

    Nothing is ever lost for good: a message that was accepted comes, and one that was not is returned as a failure.
    The same calls with the same ``seed`` meet the same faults. Thread safe.
    """

    def __init__(self, inner: TaskQueue, *, seed: int, rates: ChaosRates | None = None) -> None:
        self.max_delay_seconds = inner.max_delay_seconds
        self.durable = inner.durable
        self.remote = inner.remote
        self._inner = inner
        self._rates = rates or ChaosRates()
        self._lock = threading.Lock()
        # One sequence for each kind of fault: how calls of different kinds interleave changes none of them, nor does
        # how often there was nothing to receive.
        self._sending = random.Random(f"{seed} sending")
        self._receiving = random.Random(f"{seed} receiving")
        self._ordering = random.Random(f"{seed} ordering")
        self._acking = random.Random(f"{seed} acking")
        self._again: list[Delivery] = []
        self._copy_count = 0
        self._closed = False
        log.warning("queue.chaos", seed=seed, detail="faults are injected: never for real work")

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Some fail, some are delayed, some are sent though they are returned."""
        failures: list[EnqueueFailure] = []
        sent: list[Message] = []
        with self._lock:
            for message in messages:
                if self._sending.random() < self._rates.fail_send:
                    failures.append(EnqueueFailure(message, REASON))
                    continue
                if self._sending.random() < self._rates.lose_answer:
                    failures.append(EnqueueFailure(message, REASON))
                if self._sending.random() < self._rates.delay:
                    later = message.delay_seconds + self._some_time(self._sending)
                    message = message._replace(delay_seconds=min(later, self.max_delay_seconds))  # noqa: PLW2901
                sent.append(message)
        reported = {failure.message.task_id for failure in failures}
        refused = self._inner.enqueue(sent) if sent else []
        return failures + [f for f in refused if f.message.task_id not in reported]

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """Some come twice, now or later; some are put off; all in another order. May return early, with nothing."""
        again = self._take_again(max_messages, selector)
        room = max_messages - len(again)
        fresh = (
            self._inner.dequeue(
                max_messages=room,
                timeout_seconds=0.0 if again else timeout_seconds,
                selector=selector,
            )
            if room
            else []
        )
        put_off: dict[str, float] = {}
        with self._lock:
            chaos, rates = self._receiving, self._rates
            for delivery in fresh:
                if chaos.random() < rates.delay:
                    put_off[delivery.receipt] = self._some_time(chaos)
                if chaos.random() < rates.duplicate and len(self._again) < _MOST_KEPT:
                    self._again.append(self._copy(delivery))
            deliveries = again + [d for d in fresh if d.receipt not in put_off]
            if len(deliveries) > 1 and self._ordering.random() < rates.reorder:
                self._ordering.shuffle(deliveries)
        for receipt, seconds in put_off.items():
            self._inner.nack([receipt], delay_seconds=seconds)
        return deliveries

    def ack(self, receipts: Sequence[str]) -> None:
        """Some are not passed on: their messages come back after their visibility timeout."""
        with self._lock:
            kept = [
                receipt
                for receipt in _real(receipts)
                if self._acking.random() >= self._rates.drop_ack
            ]
        if kept:
            self._inner.ack(kept)

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        if real := _real(receipts):
            self._inner.extend(real, seconds)

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        if real := _real(receipts):
            self._inner.nack(real, delay_seconds=delay_seconds)

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        if real := _real(receipts):
            self._inner.dead_letter(real, reason)

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        return self._inner.depths()

    def wake(self) -> None:
        self._inner.wake()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._again.clear()
        self._inner.close()

    def _take_again(self, most: int, selector: Selector) -> list[Delivery]:
        """Copies whose moment has come: on average every second time that somebody asks."""
        taken: list[Delivery] = []
        with self._lock:
            if self._closed:
                return []
            for delivery in self._again:
                fits = selector.accepts(delivery.task) and (
                    selector.priorities is None or delivery.priority in selector.priorities
                )
                if fits and len(taken) < most and self._ordering.random() < 0.5:
                    taken.append(delivery)
            self._again = [delivery for delivery in self._again if delivery not in taken]
        return taken

    def _copy(self, delivery: Delivery) -> Delivery:
        self._copy_count += 1
        receipt = f"{_COPY}{self._copy_count}"
        return delivery._replace(receipt=receipt, receive_count=delivery.receive_count + 1)

    def _some_time(self, chaos: random.Random) -> float:
        return chaos.uniform(0.0, self._rates.longest_delay_seconds)


def _real(receipts: Sequence[str]) -> list[str]:
    return [receipt for receipt in receipts if not receipt.startswith(_COPY)]
