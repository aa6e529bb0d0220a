"""TaskQueue on SQS: one standard queue per priority, and one for its long tasks, each with its dead-letter queue.

receivers (one per queue) → intake → dequeue       keeper: gives back what nobody wants, extends what is kept
enqueue → sender → SQS                             ack, nack, extend, dead_letter → committer → SQS
"""

from __future__ import annotations

import atexit
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil

from taskflow.adapters.queue.sqs.client import Clients
from taskflow.adapters.queue.sqs.committer import Committer, Letter
from taskflow.adapters.queue.sqs.depths import Depths
from taskflow.adapters.queue.sqs.flights import Change, Flight
from taskflow.adapters.queue.sqs.intake import Intake
from taskflow.adapters.queue.sqs.limits import (
    LONG_POLL_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_VISIBILITY_SECONDS,
)
from taskflow.adapters.queue.sqs.loops import Keeper, Loop
from taskflow.adapters.queue.sqs.names import QueueNames, priority_of
from taskflow.adapters.queue.sqs.receiver import Receiver
from taskflow.adapters.queue.sqs.sending import Sender
from taskflow.core.task import TaskPriority
from taskflow.logs import get_logger
from taskflow.ports.queue import (
    ANYTHING,
    Delivery,
    EnqueueFailure,
    Message,
    QueueDepth,
    Selector,
)

log = get_logger(__name__)

_FLUSH_SECONDS = 5.0  # for what is still to be told to SQS when the queue is closed
_DEPTHS_SECONDS = 5.0
_PARK_SECONDS = 5.0
_TICK_SECONDS = 1.0


class SQSTaskQueue:
    """Delivers at least once, in best-effort order: what has been received is handed out highest priority first, with
    tenants in turn and a bound on starvation (`Ordering`); SQS itself keeps no order within a queue.

    ``serves``: the queues that this process receives from (`names.py` numbers them); none: it only sends. Threads start
    with the first `dequeue`, and nothing is received that nobody waits for. ``clients`` are closed with the queue.
    Thread safe.

    A receipt is known only to the process that received it, until its message is visible again.
    """

    max_delay_seconds = MAX_DELAY_SECONDS
    durable = True
    remote = True

    def __init__(
        self,
        clients: Clients,
        names: QueueNames,
        *,
        visibility_timeout_seconds: float,
        serves: Iterable[int] = tuple(TaskPriority),
        starvation_every: int = 32,
        wait_seconds: int = LONG_POLL_SECONDS,
        depths_cache_seconds: float = _DEPTHS_SECONDS,
        park_seconds: float = _PARK_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()
        visibility = min(ceil(visibility_timeout_seconds), int(MAX_VISIBILITY_SECONDS))
        self._clients = clients
        self._names = names
        self._monotonic = monotonic
        self._wait_seconds = wait_seconds
        self._sender = Sender(clients.calls, names, monotonic=monotonic, rng=rng)
        self._depths = Depths(
            clients.calls, names, cache_seconds=depths_cache_seconds, monotonic=monotonic
        )
        served = sorted(map(int, serves), key=priority_of)
        self._intake = Intake(
            served,
            visibility_timeout_seconds=visibility,
            starvation_every=starvation_every,
            park_seconds=park_seconds,
            monotonic=monotonic,
            rng=rng,
        )
        self._committer = Committer(
            clients.calls,
            names,
            names.queues,
            on_stale=self._intake.lost,
            monotonic=monotonic,
            rng=rng,
        )
        self._receivers = [
            Receiver(
                queue,
                clients,
                names,
                self._intake,
                self._committer,
                visibility_timeout_seconds=visibility,
                wait_seconds=wait_seconds,
                monotonic=monotonic,
                rng=rng,
            )
            for queue in served
        ]
        self._committing = Loop("taskflow-sqs-committer", self._committer.work)
        self._receiving = [
            Loop(f"taskflow-sqs-{receiver.name}", receiver.work, self._receiver_ended)
            for receiver in self._receivers
        ]
        self._ahead_seconds = visibility / 6
        self._keeper = Keeper(
            self._sweep,
            [self._committing, *self._receiving],
            every_seconds=min(_TICK_SECONDS, visibility / 12),
        )

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Send them, highest priority first. Returns those that SQS did not take, each with a reason; never raises for
        what SQS does. While it is away they are refused at once: the outbox keeps them."""
        return self._sender.send(messages)

    def dequeue(
        self, *, max_messages: int, timeout_seconds: float, selector: Selector = ANYTHING
    ) -> list[Delivery]:
        """Up to ``max_messages`` that are here; waits up to ``timeout_seconds`` for the first one.

        With 0 it returns what has been received, and has more received for the next call.
        """
        if self._receivers and not self._intake.is_closed:
            self._keeper.ensure()
        return self._intake.dequeue(max_messages, timeout_seconds, selector)

    def ack(self, receipts: Sequence[str]) -> None:
        """Have these deleted, soon and in batches. Unknown or stale receipts are ignored."""
        if flights := self._intake.end(receipts):
            self._committer.delete(flights)

    def extend(self, receipts: Sequence[str], seconds: float) -> None:
        """Keep these hidden for ``seconds`` from now. SQS is told when what it knows is about to run out, so that a
        worker may call this as often as it likes. Unknown or stale receipts are ignored."""
        if self._receivers and not self._intake.is_closed:
            self._keeper.ensure()
        self._intake.extend(receipts, seconds)

    def nack(self, receipts: Sequence[str], *, delay_seconds: float = 0.0) -> None:
        """Make these visible after ``delay_seconds``, to whichever worker asks first. Unknown or stale receipts are
        ignored."""
        self._give_back(self._intake.end(receipts), delay_seconds)

    def dead_letter(self, receipts: Sequence[str], reason: str) -> None:
        """Have these sent to the dead-letter queue of their queue, with the reason as an attribute, and deleted."""
        for flight in self._intake.end(receipts):
            self._committer.dead_letter(flight.queue, [Letter.of(flight, reason)])

    def depths(self) -> Mapping[TaskPriority, QueueDepth]:
        """SQS's approximate numbers, up to 5 seconds old. Raises QueueUnavailableError."""
        return self._depths.get()

    def wake(self) -> None:
        """Make every `dequeue` that waits now return early, with nothing. May be called by a signal handler."""
        self._intake.wake()

    def close(self) -> None:
        """Make what is held here visible at once and tell SQS what it has not heard yet, for up to 5 seconds.

        A long poll under way cannot be taken back: SQS goes on looking for messages for it, and hides them, also when
        nobody is there any more to hear of them. It ends by itself, within 20 s, and what it brings is made visible
        again; a process that ends waits for that, unless it is killed.
        """
        if self._intake.is_closed:
            return
        self._give_back(self._intake.close(), 0.0)
        self._keeper.close()
        for receiver in self._receivers:
            receiver.close()
        self._committer.close()
        if self._committer.waiting_count:
            self._committing.ensure()
        if not self._committing.join(_FLUSH_SECONDS):
            log.warning("queue.close_incomplete", count=self._committer.waiting_count)
        atexit.register(self._await_receivers)
        self._receiver_ended()

    def _receiver_ended(self) -> None:
        """The last one closes the connections."""
        if self._intake.is_closed and all(loop.has_ended for loop in self._receiving):
            atexit.unregister(self._await_receivers)
            self._clients.close()

    def _await_receivers(self) -> None:
        log.info("queue.closing", longest_seconds=self._wait_seconds)
        deadline = self._monotonic() + self._wait_seconds + _FLUSH_SECONDS
        for loop in self._receiving:
            loop.join(max(0.0, deadline - self._monotonic()))

    def _give_back(self, flights: Sequence[Flight], delay_seconds: float) -> None:
        until = self._monotonic() + delay_seconds
        by_queue: dict[int, list[Change]] = {}
        for flight in flights:
            change = Change(flight.delivery.receipt, until, flight.hidden_until)
            by_queue.setdefault(flight.queue, []).append(change)
        for queue, changes in by_queue.items():
            self._committer.hide(queue, changes)

    def _sweep(self) -> None:
        for queue, changes in self._intake.sweep(ahead_seconds=self._ahead_seconds).items():
            self._committer.hide(queue, changes)
