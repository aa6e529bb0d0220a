"""Batches: as few as SQS allows, and what became of each entry. One that was not sent is tried again by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskflow.adapters.queue.sqs.envelope import entry_bytes
from taskflow.adapters.queue.sqs.errors import CALL_ERRORS, Complaint, refusal
from taskflow.adapters.queue.sqs.limits import BATCH_BYTES, BATCH_ENTRIES

_ENTRY_ATTEMPTS = 3
_FIRST_WAIT_SECONDS = 0.05
NO_WORD = Complaint(
    "failed", "the answer does not speak of it: is this SQS? (AWS_ENDPOINT_URL, a proxy)"
)


def batches(entries: Sequence[Mapping[str, Any]]) -> Iterator[range]:
    """The indexes of each batch, in order: up to 10 entries of up to 1 MiB together."""
    first, size = 0, 0
    for index, entry in enumerate(entries):
        more = entry_bytes(entry)
        if index > first and (index - first == BATCH_ENTRIES or size + more > BATCH_BYTES):
            yield range(first, index)
            first, size = index, 0
        size += more
    if first < len(entries):
        yield range(first, len(entries))


def send_batch(
    client: Any, url: str, entries: Sequence[Mapping[str, Any]], rng: random.Random
) -> dict[int, Complaint]:
    """Send one batch. Returns what was not accepted, by index, after entries that SQS itself failed to take have been
    tried again. Raises what botocore raises when the first call fails as a whole: some may have been sent then, and are
    sent twice."""
    refused: dict[int, Complaint] = {}
    left = list(range(len(entries)))
    for attempt in range(_ENTRY_ATTEMPTS):
        if attempt:
            time.sleep(_FIRST_WAIT_SECONDS * 2**attempt * rng.uniform(0.5, 1.0))
        try:
            answer = client.send_message_batch(
                QueueUrl=url, Entries=[{"Id": str(index), **entries[index]} for index in left]
            )
        except CALL_ERRORS:
            if not attempt:
                raise
            break  # the others have been sent: these stay refused
        failed = answer.get("Failed", ())
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        for index in left:
            if str(index) in taken:
                refused.pop(index, None)
            else:
                refused[index] = NO_WORD
        for entry in failed:
            said = refusal(str(entry.get("Code", "")), str(entry.get("Message", "")))
            refused[int(entry["Id"])] = said
        left = [int(entry["Id"]) for entry in failed if not entry.get("SenderFault")]
        if not left:
            break
    return refused


def not_done(answer: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The entries of a batch that failed, by index. So did those that the answer does not speak of: it may not be
    SQS's."""
    failed = list(answer.get("Failed", ()))
    known = {entry["Id"] for entry in [*failed, *answer.get("Successful", ())]}
    silent = [index for index in map(str, range(count)) if index not in known]
    return failed + [{"Id": i, "Code": NO_WORD.reason, "Message": NO_WORD.text} for i in silent]
