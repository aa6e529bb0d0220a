"""One thread that tells SQS what became of messages: deletes, visibility and dead letters, in batches of 10."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import ceil, inf
from threading import Condition
from typing import Any, Literal, NamedTuple

from taskflow.adapters.queue.sqs.batches import not_done, send_batch
from taskflow.adapters.queue.sqs.envelope import encode, entry_bytes, letter_entry, reason_attribute
from taskflow.adapters.queue.sqs.errors import CALL_ERRORS, complaint, is_stale
from taskflow.adapters.queue.sqs.flights import Change, Flight
from taskflow.adapters.queue.sqs.limits import BATCH_BYTES, BATCH_ENTRIES
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.pause import Pause
from taskflow.logs import get_logger
from taskflow.ports.queue import Message

log = get_logger(__name__)

LINGER_SECONDS = 0.2  # a batch of deletes that is not full is sent no sooner after the last one

Kind = Literal["hide", "dead_letter", "delete"]
_KINDS: tuple[Kind, ...] = ("hide", "dead_letter", "delete")  # most urgent first
_FAILED = {
    "hide": "queue.visibility_failed",
    "dead_letter": "queue.dead_letter_failed",
    "delete": "queue.delete_failed",
}


class Delete(NamedTuple):
    receipt: str
    give_up_at: float


class Letter(NamedTuple):
    """For the dead-letter queue: the entry as it is sent, and what the log says of it."""

    receipt: str
    entry: Mapping[str, Any]
    fields: Mapping[str, Any]
    give_up_at: float = inf

    @classmethod
    def of(cls, flight: Flight, reason: str) -> Letter:
        delivery = flight.delivery
        entry = encode(Message(*delivery[:4], traceparent=delivery.traceparent))
        entry["MessageAttributes"] |= reason_attribute(reason)
        return cls(
            delivery.receipt,
            entry,
            {
                "tenant_id": delivery.tenant_id,
                "task_id": delivery.task_id,
                "task": delivery.task,
                "receive_count": delivery.receive_count,
                "reason": reason,
            },
            flight.hidden_until,
        )

    @classmethod
    def undecodable(cls, message: Mapping[str, Any], reason: str) -> Letter:
        """As it was received by boto3."""
        entry = letter_entry(message, reason)
        fields = {"message_id": message["MessageId"], "reason": reason}
        return cls(message["ReceiptHandle"], entry, fields)


class _Lane:
    """What waits to be told about one queue, of one kind."""

    def __init__(self, kind: Kind, queue: int, pause: Pause) -> None:
        self.kind = kind
        self.queue = queue
        self.pause = pause
        self.waiting: deque[Any] = deque()
        self.sent_at = -inf

    def due_at(self, *, hurry: bool) -> float:
        if not self.waiting:
            return inf
        at = -inf
        if self.kind == "delete" and len(self.waiting) < BATCH_ENTRIES and not hurry:
            at = self.sent_at + LINGER_SECONDS
        return max(at, self.pause.until) if self.pause.left_seconds() > 0 else at

    def take(self, now: float) -> list[Any]:
        """The next batch, for one call: of letters no more than fit into it. What would come too late is dropped: it is
        visible again, and handled when it comes back."""
        batch: list[Any] = []
        size = 0
        while self.waiting and len(batch) < BATCH_ENTRIES:
            item = self.waiting.popleft()
            if item.give_up_at <= now:
                continue
            size += entry_bytes(item.entry) if self.kind == "dead_letter" else 0
            if batch and size > BATCH_BYTES:
                self.waiting.appendleft(item)
                break
            batch.append(item)
        return batch


class Committer:
    """Thread safe. While a batch is on its way the next one gathers; what comes alone goes out at once.

    ``on_stale`` is called with receipts of which SQS says that they are valid no more.
    """

    def __init__(
        self,
        client: Any,
        names: QueueNames,
        queues: Sequence[int],
        *,
        on_stale: Callable[[Sequence[str]], None],
        monotonic: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._client = client
        self._names = names
        self._on_stale = on_stale
        self._monotonic = monotonic
        self._rng = rng
        self._lanes = {
            (kind, queue): _Lane(kind, queue, Pause(monotonic, rng))
            for kind in _KINDS
            for queue in queues
        }
        self._calls: dict[Kind, Callable[[int, Any], Sequence[dict[str, Any]]]] = {
            "hide": self._hide,
            "dead_letter": self._dead_letter,
            "delete": self._delete,
        }
        self._changed = Condition()
        self._looks_at = -inf  # when the thread will look by itself
        self._closing = False

    def delete(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            self._add(
                "delete", flight.queue, [Delete(flight.delivery.receipt, flight.hidden_until)]
            )
        self._tell()

    def hide(self, queue: int, changes: Sequence[Change]) -> None:
        self._add("hide", queue, changes)
        self._tell()

    def dead_letter(
        self, queue: int, letters: Sequence[Letter], *, give_up_in_seconds: float = inf
    ) -> None:
        """Send to the dead-letter queue, then delete."""
        give_up_at = self._monotonic() + give_up_in_seconds
        self._add(
            "dead_letter",
            queue,
            [letter._replace(give_up_at=min(letter.give_up_at, give_up_at)) for letter in letters],
        )
        self._tell()

    def close(self) -> None:
        """Send what there is without waiting for more, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    @property
    def waiting_count(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes.values())

    def work(self) -> None:
        """Until closed and done."""
        while (found := self._next()) is not None:
            lane, batch = found
            if batch:
                self._send(lane, batch)

    def _add(self, kind: Kind, queue: int, items: Sequence[Any]) -> None:
        self._lanes[kind, queue].waiting.extend(items)

    def _tell(self) -> None:
        if self._looks_at > -inf:  # it sleeps
            with self._changed:
                if self._due()[0] < self._looks_at:
                    self._changed.notify()

    def _due(self) -> tuple[float, _Lane]:
        lanes = self._lanes.values()
        return min(
            ((lane.due_at(hurry=self._closing), lane) for lane in lanes), key=lambda due: due[0]
        )

    def _next(self) -> tuple[_Lane, list[Any]] | None:
        with self._changed:
            while True:
                now = self._monotonic()
                due_at, lane = self._due()
                if due_at <= now:
                    batch = lane.take(now)
                    if batch:
                        lane.sent_at = now
                    return lane, batch
                if self._closing and due_at == inf:
                    return None
                self._looks_at = due_at
                # What was added since `_due` looked: whoever added it saw no sleeper.
                if self._due()[0] >= due_at:
                    self._changed.wait(None if due_at == inf else due_at - now)
                self._looks_at = -inf

    def _send(self, lane: _Lane, batch: list[Any]) -> None:
        try:
            failed = self._calls[lane.kind](lane.queue, batch)
        except CALL_ERRORS as exc:
            said = complaint(exc)
            again, reason, error = batch, said.reason, said.text
        else:
            stale = [batch[int(entry["Id"])].receipt for entry in failed if is_stale(entry)]
            if stale:
                log.debug("queue.receipts_stale", kind=lane.kind, count=len(stale))
                self._on_stale(stale)
            bad = [entry for entry in failed if not is_stale(entry)]
            if not bad:
                lane.pause.succeeded()
                return
            again = [batch[int(entry["Id"])] for entry in bad]
            reason, error = "refused", str(bad[0].get("Message") or bad[0].get("Code"))
        lane.waiting.extendleft(reversed(again))
        log.warning(
            _FAILED[lane.kind],
            queue=self._names.name(lane.queue),
            reason=reason,
            error=error,
            count=len(again),
            retry_in_seconds=round(lane.pause.failed(), 3),
        )

    def _delete(self, queue: int, batch: Sequence[Delete]) -> Sequence[dict[str, Any]]:
        answer = self._client.delete_message_batch(
            QueueUrl=self._names.url(self._client, self._names.name(queue)),
            Entries=[
                {"Id": str(index), "ReceiptHandle": item.receipt}
                for index, item in enumerate(batch)
            ],
        )
        return not_done(answer, len(batch))

    def _hide(self, queue: int, batch: Sequence[Change]) -> Sequence[dict[str, Any]]:
        now = self._monotonic()
        answer = self._client.change_message_visibility_batch(
            QueueUrl=self._names.url(self._client, self._names.name(queue)),
            Entries=[
                {
                    "Id": str(index),
                    "ReceiptHandle": item.receipt,
                    "VisibilityTimeout": max(0, ceil(item.until - now)),
                }
                for index, item in enumerate(batch)
            ],
        )
        return not_done(answer, len(batch))

    def _dead_letter(self, queue: int, batch: Sequence[Letter]) -> Sequence[dict[str, Any]]:
        name = self._names.dead_name(queue)
        url = self._names.url(self._client, name)
        refused = send_batch(self._client, url, [letter.entry for letter in batch], self._rng)
        for index, letter in enumerate(batch):
            if index not in refused:
                log.error("message.dead_lettered", queue=name, **letter.fields)
                self._add("delete", queue, [Delete(letter.receipt, letter.give_up_at)])
        return [
            {"Id": str(index), "Code": said.reason, "Message": said.text}
            for index, said in refused.items()
        ]


def make_visible(client: Any, names: QueueNames, name: str, receipts: Sequence[str]) -> None:
    """At once and without the committer, which has ended by then. What fails is visible after its timeout."""
    try:
        answer = client.change_message_visibility_batch(
            QueueUrl=names.url(client, name),
            Entries=[
                {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                for index, receipt in enumerate(receipts)
            ],
        )
    except CALL_ERRORS as exc:
        said = complaint(exc)
        log.warning("queue.visibility_failed", queue=name, reason=said.reason, error=said.text)
        return
    if bad := [entry for entry in not_done(answer, len(receipts)) if not is_stale(entry)]:
        error = str(bad[0].get("Message") or bad[0].get("Code"))
        log.warning("queue.visibility_failed", queue=name, reason="refused", error=error)
