"""Makes the queues on an emulator. On AWS they are made by deploy.py, with alarms and policies."""

from __future__ import annotations

import json
import math
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taskflow.adapters.queue.sqs.errors import complaint
from taskflow.adapters.queue.sqs.limits import (
    DEAD_LETTER_RETENTION_SECONDS,
    LONG_POLL_SECONDS,
    RETENTION_SECONDS,
)
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.core.errors import QueueUnavailableError
from taskflow.core.task import TaskPriority

# High, because a receive is not an attempt: a message given back, or early, counts too. Attempts are counted in the
# store, which dead-letters the task after the fifth crash. This is for messages that nobody even gets to read.
MAX_RECEIVES = 100


def provision(client: Any, names: QueueNames, *, visibility_timeout_seconds: float) -> list[str]:
    """Create each priority's queue and dead-letter queue, or set the attributes of those that there are.

    Queues that were given by URL are left alone. Returns the names of the others. Raises QueueUnavailableError.
    """
    made: list[str] = []
    for priority in TaskPriority:
        if names.is_given(priority):
            continue
        name, dead_name = names.name(priority), names.dead_name(priority)
        try:
            _make(client, name, dead_name, math.ceil(visibility_timeout_seconds))
        except (ClientError, BotoCoreError) as exc:
            said = complaint(exc)
            raise QueueUnavailableError(f"queue {name!r} cannot be made: {said.text}") from exc
        made += [name, dead_name]
    return made


def _make(client: Any, name: str, dead_name: str, visibility_seconds: int) -> None:
    dead_url = _queue(
        client, dead_name, {"MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_SECONDS)}
    )
    arn = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
    redrive = {
        "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
        "maxReceiveCount": MAX_RECEIVES,
    }
    _queue(
        client,
        name,
        {
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "ReceiveMessageWaitTimeSeconds": str(LONG_POLL_SECONDS),
            "VisibilityTimeout": str(visibility_seconds),
            "RedrivePolicy": json.dumps(redrive),
        },
    )


def _queue(client: Any, name: str, attributes: dict[str, str]) -> str:
    """Created, then set: SQS refuses to create a queue that exists with other attributes."""
    url: str = client.create_queue(QueueName=name)["QueueUrl"]
    client.set_queue_attributes(QueueUrl=url, Attributes=attributes)
    return url
