"""Makes the queues on an emulator. On AWS they are made by deploy.py, with alarms and policies."""

from __future__ import annotations

import json
import math
from typing import Any

from taskflow.adapters.queue.sqs.errors import CALL_ERRORS, complaint, field
from taskflow.adapters.queue.sqs.limits import (
    DEAD_LETTER_RETENTION_SECONDS,
    LONG_POLL_SECONDS,
    RETENTION_SECONDS,
)
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.core.errors import QueueUnavailableError

# High, because a receive is not an attempt: a message given back, or early, counts too. Attempts are counted in the
# store, which dead-letters the task after the fifth crash. This is for messages that nobody even gets to read.
MAX_RECEIVES = 100


def provision(
    client: Any, names: QueueNames, *, visibility_timeout_seconds: float
) -> dict[str, bool]:
    """Create each queue with its dead-letter queue, or set the attributes of those that there are.

    Queues that were given by URL are left alone. Returns whether each of the others is new, by name. Raises
    QueueUnavailableError.
    """
    made: dict[str, bool] = {}
    for queue in names.queues:
        if names.is_given(queue):
            continue
        name, dead_name = names.name(queue), names.dead_name(queue)
        try:
            made |= _make(client, name, dead_name, math.ceil(visibility_timeout_seconds))
        except CALL_ERRORS as exc:
            said = complaint(exc)
            raise QueueUnavailableError(f"queue {name!r} cannot be made: {said.text}") from exc
    return made


def _make(client: Any, name: str, dead_name: str, visibility_seconds: int) -> dict[str, bool]:
    dead_url, dead_is_new = _queue(
        client, dead_name, {"MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_SECONDS)}
    )
    answer = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {
        "deadLetterTargetArn": field(field(answer, "Attributes"), "QueueArn"),
        "maxReceiveCount": MAX_RECEIVES,
    }
    _, is_new = _queue(
        client,
        name,
        {
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_SECONDS),
            "VisibilityTimeout": str(visibility_seconds),
            "RedrivePolicy": json.dumps(redrive),
        },
    )
    return {name: is_new, dead_name: dead_is_new}


def _queue(client: Any, name: str, attributes: dict[str, str]) -> tuple[str, bool]:
    """Its URL, and whether it is new. Looked for first: SQS refuses to create what exists with other attributes."""
    try:
        url: str = field(client.get_queue_url(QueueName=name), "QueueUrl")
    except client.exceptions.QueueDoesNotExist:
        return field(client.create_queue(QueueName=name, Attributes=attributes), "QueueUrl"), True
    client.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    return url, False
