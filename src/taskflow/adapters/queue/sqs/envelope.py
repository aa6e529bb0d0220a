"""How a message looks in SQS: a small JSON body that says everything, attributes for those who only filter.

Works for what boto3 receives and for the records of a Lambda event, which spell the same fields differently.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import orjson

from taskflow.adapters.queue.sqs.errors import UndecodableMessageError
from taskflow.adapters.queue.sqs.limits import (
    BATCH_BYTES,
    GROUP_ID_CHARACTERS,
    MESSAGE_ATTRIBUTES,
)
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Delivery, Message

VERSION = 1
_PRIORITY_NAMES = {int(priority): priority.name.lower() for priority in TaskPriority}
# Letters, digits and ASCII punctuation: API reference, SendMessage, MessageGroupId.
_GROUP_ID = re.compile(rf"[!-~]{{1,{GROUP_ID_CHARACTERS}}}")
_PLAIN = re.compile(r"[^\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]{1,256}")
_SHOWN_CHARACTERS = 80
_REASON_CHARACTERS = 256


def encode(message: Message) -> dict[str, Any]:
    """The fields of an entry of SendMessageBatch, without its ``Id``.

    The traceparent travels in the body, where it survives a redrive, and as an attribute. A fraction of a second of
    delay is a whole one: early is worse than late.
    """
    body: dict[str, Any] = {
        "v": VERSION,
        "task_id": message.task_id,
        "tenant_id": message.tenant_id,
        "task": message.task,
        "priority": message.priority,
    }
    if message.traceparent is not None:
        body["traceparent"] = message.traceparent
    entry: dict[str, Any] = {
        # ASCII only: some characters that JSON may carry are not allowed in a message.
        "MessageBody": json.dumps(body, separators=(",", ":")),
        "MessageAttributes": body_attributes(body),
        "MessageGroupId": group_id(message.tenant_id),
    }
    if message.delay_seconds > 0:
        entry["DelaySeconds"] = math.ceil(message.delay_seconds)
    return entry


def body_attributes(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a body says to those who filter; of one that is not TaskFlow's what looks like it."""
    priority = body.get("priority")
    said = {
        "priority": _PRIORITY_NAMES.get(priority) if type(priority) is int else None,
        "tenant": body.get("tenant_id"),
        "task": body.get("task"),
        "traceparent": body.get("traceparent"),
    }
    return text_attributes({name: value for name, value in said.items() if type(value) is str})


def text_attributes(values: Mapping[str, str]) -> dict[str, Any]:
    """Those that SQS can carry: it refuses an empty one and most control characters. The body has them all."""
    return {
        name: {"DataType": "String", "StringValue": value}
        for name, value in values.items()
        if _PLAIN.fullmatch(value)
    }


def letter_entry(received: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The fields of an entry for a dead-letter queue: a message as it was received, with why it is put away.

    Of attributes that were not received those that its body tells of. Without any if it is as large as can be; a body
    may not be empty.
    """
    text = received.get("body", received.get("Body")) or " "
    own = reason_attribute(reason) | text_attributes(
        {"message_id": received.get("messageId", received.get("MessageId", ""))}
    )
    kept = [(name, value) for name, value in _attributes(received, text).items() if name not in own]
    attributes = dict(kept[: MESSAGE_ATTRIBUTES - len(own)]) | own
    entry = {"MessageBody": text, "MessageAttributes": attributes}
    return entry if entry_bytes(entry) <= BATCH_BYTES else entry | {"MessageAttributes": {}}


def _attributes(received: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Those that are text."""
    if "messageAttributes" in received:
        return {
            name: {"DataType": value["dataType"], "StringValue": value["stringValue"]}
            for name, value in received["messageAttributes"].items()
            if value.get("stringValue")
        }
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return body_attributes(body) if type(body) is dict else {}


def reason_attribute(reason: str) -> dict[str, Any]:
    """Why it is put away, as far as an attribute can say it."""
    printable = "".join(c if c.isprintable() else "?" for c in reason)
    return text_attributes({"reason": printable[:_REASON_CHARACTERS]})


def group_id(tenant_id: str) -> str:
    """The tenant, by which SQS's fair queues tell the noisy from the quiet; a hash if SQS cannot spell its name."""
    if _GROUP_ID.fullmatch(tenant_id):
        return tenant_id
    digest = hashlib.sha256(tenant_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"tenant-{digest[:40]}"


def entry_bytes(entry: Mapping[str, Any]) -> int:
    """What SQS counts against its limits: the body, and of each attribute its name, type and value."""
    size = len(entry["MessageBody"].encode())
    for name, attribute in entry["MessageAttributes"].items():
        size += len(name) + len(attribute["DataType"]) + len(attribute["StringValue"].encode())
    return size


def decode(received: Mapping[str, Any]) -> Delivery:
    """A message as boto3's ``receive_message`` returns it, or a record of a Lambda event.

    The receipt is SQS's receipt handle. Raises UndecodableMessageError, which says what is wrong with the body.
    """
    is_record = "receiptHandle" in received
    text = received.get("body" if is_record else "Body") or ""
    attributes = received.get("attributes" if is_record else "Attributes") or {}
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise UndecodableMessageError(f"the body is not JSON: {exc}: {_shown(text)}") from None
    if type(body) is not dict:
        raise UndecodableMessageError(f"the body is not a JSON object: {_shown(text)}")
    if (version := body.get("v")) != VERSION:
        raise UndecodableMessageError(
            f"the message is of version {version!r:.20}, this TaskFlow reads {VERSION}"
        )
    priority = body.get("priority")
    if type(priority) is not int or priority not in _PRIORITY_NAMES:
        raise UndecodableMessageError(f"there is no priority {priority!r:.40}")
    traceparent = body.get("traceparent")
    return Delivery(
        _text(body, "task_id"),
        _text(body, "tenant_id"),
        _text(body, "task"),
        priority,
        received["receiptHandle" if is_record else "ReceiptHandle"],
        int(attributes.get("ApproximateReceiveCount", 1)),
        traceparent if type(traceparent) is str else None,
    )


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if type(value) is not str or not value:
        raise UndecodableMessageError(f"{name} is {value!r:.40}, not a text")
    return value


def _shown(text: str) -> str:
    return repr(text[:_SHOWN_CHARACTERS])
