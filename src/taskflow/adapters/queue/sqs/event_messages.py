"""What is done by hand to the messages of a Lambda event: everything but deleting them, which Lambda does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

from taskflow.adapters.queue.sqs.batches import not_done
from taskflow.adapters.queue.sqs.envelope import letter_entry
from taskflow.adapters.queue.sqs.errors import complaint, field, is_stale
from taskflow.adapters.queue.sqs.limits import BATCH_ENTRIES, MAX_VISIBILITY_SECONDS
from taskflow.adapters.queue.sqs.names import DEAD_SUFFIX, QueueNames
from taskflow.logs import get_logger

log = get_logger(__name__)

LONGEST_SECONDS = MAX_VISIBILITY_SECONDS - 3_600  # the limit counts from when it was received


class Return(NamedTuple):
    """A message that stays in its queue, to be seen again after ``seconds``."""

    queue: str
    receipt: str
    message_id: str
    seconds: float


class EventMessages:
    """Never raises: what fails here is logged, and the message comes back after its visibility timeout.

    ``connect`` makes the client: most events need none, and it costs a tenth of a second.
    """

    def __init__(self, connect: Callable[[], Any], names: QueueNames) -> None:
        self._connect = cache(connect)
        self._names = names

    def put_away(self, record: Mapping[str, Any], reason: str) -> bool:
        """Whether it is in its dead-letter queue now, and may be deleted where it came from."""
        queue = queue_of(record)
        log.error(
            "message.undecodable",
            queue=queue,
            message_id=record["messageId"],
            receive_count=record.get("attributes", {}).get("ApproximateReceiveCount"),
            reason=reason,
        )
        if queue.endswith(DEAD_SUFFIX):
            return False  # it is there, for people to look at
        try:
            client = self._connect()
            answer = client.send_message(
                QueueUrl=self._names.url(client, queue + DEAD_SUFFIX),
                **letter_entry(record, reason),
            )
            field(answer, "MessageId")
        except Exception as exc:  # noqa: BLE001 - whatever it is, the message stays where it is
            log.error("queue.not_put_away", queue=queue, error=complaint(exc).text)
            return False
        return True

    def show_again(self, returns: Sequence[Return]) -> None:
        """In as few calls as SQS allows."""
        for queue, group in groupby(sorted(returns), key=lambda back: back.queue):
            backs = list(group)
            for start in range(0, len(backs), BATCH_ENTRIES):
                self._change(queue, backs[start : start + BATCH_ENTRIES])

    def _change(self, queue: str, backs: Sequence[Return]) -> None:
        entries = [
            {
                "Id": str(index),
                "ReceiptHandle": back.receipt,
                "VisibilityTimeout": math.ceil(min(LONGEST_SECONDS, back.seconds)),
            }
            for index, back in enumerate(backs)
        ]
        try:
            client = self._connect()
            answer = client.change_message_visibility_batch(
                QueueUrl=self._names.url(client, queue), Entries=entries
            )
        except Exception as exc:  # noqa: BLE001 - they come back after their visibility timeout
            log.warning("queue.not_given_back", queue=queue, error=complaint(exc).text)
            return
        if failed := [entry for entry in not_done(answer, len(entries)) if not is_stale(entry)]:
            log.warning("queue.not_given_back", queue=queue, error=failed[0].get("Message"))


def queue_of(record: Mapping[str, Any]) -> str:
    """Its name: the last part of the ARN."""
    return str(record["eventSourceARN"]).rpartition(":")[2]
