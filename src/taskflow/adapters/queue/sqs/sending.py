"""Enqueueing: in full batches, without ever waiting for an SQS that was just found to be away."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from taskflow.adapters.queue.sqs.batches import batches, send_batch
from taskflow.adapters.queue.sqs.envelope import encode, entry_bytes
from taskflow.adapters.queue.sqs.errors import CALL_ERRORS, Complaint, complaint
from taskflow.adapters.queue.sqs.limits import BATCH_BYTES, MAX_DELAY_SECONDS
from taskflow.adapters.queue.sqs.names import QueueNames, priority_of
from taskflow.adapters.queue.sqs.pause import Pause
from taskflow.core.task import TaskPriority
from taskflow.logs import get_logger
from taskflow.ports.queue import EnqueueFailure, Message

log = get_logger(__name__)

_PRIORITIES = frozenset(map(int, TaskPriority))
_SQS = -1  # for all of its queues, where those have numbers
_PAUSE_CAP_SECONDS = 5.0  # the outbox is looked at every second
_DOUBT_SECONDS = 2.0  # a call that takes longer keeps nobody else waiting


class Sender:
    """Thread safe. While a queue is left alone after a failed call, or another call waits too long for its answer, its
    messages are refused at once: nobody must wait for what the outbox will do anyway. A call that SQS did not answer
    has all queues left alone, for at least as long as it took: an SQS that hangs has calls half of the time at most.
    """

    def __init__(
        self,
        client: Any,
        names: QueueNames,
        *,
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._client = client
        self._names = names
        self._monotonic = monotonic
        self._rng = rng
        self._under_way: dict[int, list[float]] = {queue: [] for queue in names.queues}  # began at
        self._pauses = {
            queue: Pause(monotonic, rng, cap_seconds=_PAUSE_CAP_SECONDS)
            for queue in (_SQS, *names.queues)
        }
        self._last: dict[int, Complaint] = {}

    def send(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        """Returns those that were not accepted, each with the reason. Never raises for what SQS does."""
        failures: list[EnqueueFailure] = []
        by_queue: dict[int, list[tuple[Message, dict[str, Any]]]] = {}
        for message in messages:
            if (refused := _refusal(message)) is not None:
                failures.append(EnqueueFailure(message, refused))
                continue
            entry = encode(message)
            if entry_bytes(entry) > BATCH_BYTES:
                failures.append(
                    EnqueueFailure(message, f"larger than SQS's limit of {BATCH_BYTES} bytes")
                )
                continue
            queue = self._names.queue_for(message)
            by_queue.setdefault(queue, []).append((message, entry))
        for queue in sorted(by_queue, key=priority_of):
            failures += self._send(queue, by_queue[queue])
        return failures

    def _send(
        self, queue: int, outgoing: Sequence[tuple[Message, dict[str, Any]]]
    ) -> list[EnqueueFailure]:
        failures: list[EnqueueFailure] = []
        entries = [entry for _, entry in outgoing]
        for indexes in batches(entries):
            if (said := self._in_doubt(queue)) is not None:
                refused = dict.fromkeys(range(len(indexes)), said)
            else:
                refused = self._send_batch(queue, [entries[index] for index in indexes])
            failures += [
                EnqueueFailure(outgoing[indexes[place]][0], f"{said.reason}: {said.text}")
                for place, said in refused.items()
            ]
        return failures

    def _in_doubt(self, queue: int) -> Complaint | None:
        """Why it is not to be tried now."""
        for left_alone in (_SQS, queue):
            if self._pauses[left_alone].left_seconds() > 0:
                return self._last[left_alone]
        silent_seconds = self._monotonic() - min(self._under_way[queue], default=math.inf)
        if silent_seconds < _DOUBT_SECONDS:
            return None
        return Complaint("unreachable", f"SQS has not answered for {silent_seconds:.1f} s")

    def _send_batch(self, queue: int, entries: Sequence[dict[str, Any]]) -> dict[int, Complaint]:
        name = self._names.name(queue)
        began = self._monotonic()
        self._under_way[queue].append(began)
        try:
            refused = send_batch(
                self._client, self._names.url(self._client, name), entries, self._rng
            )
        except CALL_ERRORS as exc:
            said = complaint(exc)
            left_alone = _SQS if said.reason == "unreachable" else queue
            self._last[left_alone] = said
            seconds = self._pauses[left_alone].failed(at_least_seconds=self._monotonic() - began)
            log.warning(
                "queue.send_failed",
                queue=name,
                reason=said.reason,
                error=said.text,
                count=len(entries),
                retry_in_seconds=round(seconds, 3),
            )
            return dict.fromkeys(range(len(entries)), said)
        finally:
            self._under_way[queue].remove(began)
        if any([self._pauses[_SQS].succeeded(), self._pauses[queue].succeeded()]):
            log.info("queue.send_recovered", queue=name)
        if refused:
            said = next(iter(refused.values()))
            log.warning(
                "queue.send_failed",
                queue=name,
                reason=said.reason,
                error=said.text,
                count=len(refused),
            )
        return refused


def _refusal(message: Message) -> str | None:
    if message.priority not in _PRIORITIES:
        return f"there is no priority {message.priority}"
    if math.ceil(message.delay_seconds) > MAX_DELAY_SECONDS:
        return f"delayed by more than {MAX_DELAY_SECONDS:g} s"
    return None
