"""Enqueueing: in full batches, without ever waiting for an SQS that was just found to be away."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taskflow.adapters.queue.sqs.batches import batches, send_batch
from taskflow.adapters.queue.sqs.envelope import encode, entry_bytes
from taskflow.adapters.queue.sqs.errors import Complaint, complaint
from taskflow.adapters.queue.sqs.limits import BATCH_BYTES, MAX_DELAY_SECONDS
from taskflow.adapters.queue.sqs.names import QueueNames, priority_of
from taskflow.adapters.queue.sqs.pause import Pause
from taskflow.core.task import TaskPriority
from taskflow.logs import get_logger
from taskflow.ports.queue import EnqueueFailure, Message

log = get_logger(__name__)

_PRIORITIES = frozenset(map(int, TaskPriority))
_PAUSE_CAP_SECONDS = 5.0  # the outbox is looked at every second


class Sender:
    """Thread safe. While a queue is left alone after a failed call, its messages are refused at once: a submission
    must not wait for what the outbox will do anyway."""

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
        self._rng = rng
        self._pauses = {
            queue: Pause(monotonic, rng, cap_seconds=_PAUSE_CAP_SECONDS) for queue in names.queues
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
        pause = self._pauses[queue]
        for indexes in batches(entries):
            if pause.left_seconds() > 0:
                said = self._last[queue]
                refused = dict.fromkeys(range(len(indexes)), said)
            else:
                refused = self._send_batch(queue, [entries[index] for index in indexes])
            failures += [
                EnqueueFailure(outgoing[indexes[place]][0], f"{said.reason}: {said.text}")
                for place, said in refused.items()
            ]
        return failures

    def _send_batch(self, queue: int, entries: Sequence[dict[str, Any]]) -> dict[int, Complaint]:
        name, pause = self._names.name(queue), self._pauses[queue]
        try:
            refused = send_batch(
                self._client, self._names.url(self._client, name), entries, self._rng
            )
        except (ClientError, BotoCoreError) as exc:
            said = self._last[queue] = complaint(exc)
            log.warning(
                "queue.send_failed",
                queue=name,
                reason=said.reason,
                error=said.text,
                count=len(entries),
                retry_in_seconds=round(pause.failed(), 3),
            )
            return dict.fromkeys(range(len(entries)), said)
        if pause.succeeded():
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
