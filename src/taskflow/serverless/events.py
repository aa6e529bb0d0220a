"""What Lambda's SQS event source gives and wants back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskflow.logs import get_logger

log = get_logger(__name__)

_NEEDED = ("messageId", "receiptHandle", "eventSourceARN", "body")


def records_of(event: Any) -> list[Mapping[str, Any]]:
    """The messages of an event; of what is none of SQS's, none."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(records, list):
        log.error("lambda.not_an_sqs_event")
        return []
    found = [
        record
        for record in records
        if isinstance(record, Mapping)
        and record.get("eventSource") == "aws:sqs"
        and all(isinstance(record.get(name), str) for name in _NEEDED)
    ]
    if len(found) < len(records):
        log.error("lambda.not_an_sqs_event", records=len(records) - len(found))
    return found


def ids_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(record["messageId"]) for record in records]


def answer(kept: Sequence[str]) -> dict[str, Any]:
    """Lambda deletes all messages of the event but these. The event source must have
    ``FunctionResponseTypes=[ReportBatchItemFailures]``, or it deletes these, too."""
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in kept]}
