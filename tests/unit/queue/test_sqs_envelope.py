"""How a message looks in SQS, and what SQS says when it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from taskflow.adapters.queue.sqs.batches import batches
from taskflow.adapters.queue.sqs.envelope import (
    decode,
    encode,
    entry_bytes,
    group_id,
    letter_entry,
)
from taskflow.adapters.queue.sqs.errors import UndecodableMessageError, complaint, refusal
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.core.errors import ConfigurationError
from taskflow.ports.queue import Message

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)


def received(entry: dict[str, Any], *, count: int = 1) -> dict[str, Any]:
    """As boto3 returns it."""
    return {
        "MessageId": "m1",
        "ReceiptHandle": "handle",
        "Body": entry["MessageBody"],
        "Attributes": {"ApproximateReceiveCount": str(count)},
    }


def record(entry: dict[str, Any], *, count: int = 1) -> dict[str, Any]:
    """As Lambda passes it on."""
    return {
        "messageId": "m1",
        "receiptHandle": "handle",
        "body": entry["MessageBody"],
        "attributes": {"ApproximateReceiveCount": str(count)},
        "messageAttributes": {
            name: {"stringValue": value["StringValue"], "dataType": value["DataType"]}
            for name, value in entry["MessageAttributes"].items()
        },
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:taskflow-dev-high",
    }


@given(texts, texts, st.integers(0, 3), st.integers(1, 1000))
def test_what_was_encoded_is_decoded_from_boto3_and_from_lambda(
    tenant_id: str, task: str, priority: int, count: int
) -> None:
    entry = encode(Message("t1", tenant_id, task, priority))
    for found in (received(entry, count=count), record(entry, count=count)):
        assert decode(found) == ("t1", tenant_id, task, priority, "handle", count, None)


@given(texts)
def test_sqs_takes_every_entry_whatever_a_tenant_is_called(tenant_id: str) -> None:
    """Characters and lengths: API reference of SendMessage."""
    entry = encode(Message("t1", tenant_id, "task", 2))
    assert entry["MessageBody"].isascii()
    assert 1 <= len(entry["MessageGroupId"]) <= 128
    assert all("!" <= character <= "~" for character in entry["MessageGroupId"])
    for attribute in entry["MessageAttributes"].values():
        value = attribute["StringValue"]
        assert value
        assert all(c in "\t\n\r" or " " <= c <= "\ud7ff" or c >= "\ue000" for c in value)
        assert "\ufffe" not in value


def test_tenants_keep_their_names_or_get_different_ones() -> None:
    assert group_id("acme-1") == "acme-1"
    spaced, long = group_id("acme 1"), group_id("a" * 129)
    assert len({spaced, long, group_id("acme 2"), group_id("a" * 130)}) == 4


def test_the_trace_travels_in_the_body_and_as_an_attribute() -> None:
    entry = encode(Message("t1", "acme", "task", 2, traceparent=TRACEPARENT))
    assert entry["MessageAttributes"]["traceparent"]["StringValue"] == TRACEPARENT
    assert json.loads(entry["MessageBody"])["traceparent"] == TRACEPARENT
    assert decode(received(entry)).traceparent == decode(record(entry)).traceparent == TRACEPARENT
    without = encode(Message("t1", "acme", "task", 2))
    assert "traceparent" not in without["MessageAttributes"]
    assert "traceparent" not in without["MessageBody"]


@pytest.mark.parametrize(
    ("delay_seconds", "sent"), [(0.0, None), (0.2, 1), (1.0, 1), (1.001, 2), (900.0, 900)]
)
def test_fractions_of_a_delay_are_rounded_up(delay_seconds: float, sent: int | None) -> None:
    entry = encode(Message("t1", "acme", "task", 2, delay_seconds))
    assert entry.get("DelaySeconds") == sent


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"v": None}, {"priority": 4}, {"priority": "high"}, {"priority": True},
        {"task_id": ""}, {"task_id": 7}, {"tenant_id": None}, {"task": []},
    ],
)  # fmt: skip
def test_a_message_that_lacks_something_is_not_decoded(change: dict[str, Any]) -> None:
    entry = encode(Message("t1", "acme", "task", 2))
    entry["MessageBody"] = json.dumps({**json.loads(entry["MessageBody"]), **change})
    for found in (received(entry), record(entry)):
        with pytest.raises(UndecodableMessageError):
            decode(found)


def test_a_letter_keeps_the_attributes_of_its_message() -> None:
    """Where they were not received, those of which the body tells."""
    entry = encode(Message("t1", "acme", "task", 1, traceparent=TRACEPARENT))
    entry["MessageBody"] = json.dumps({**json.loads(entry["MessageBody"]), "v": 2})
    for found in (received(entry), record(entry)):
        letter = letter_entry(found, "of a newer version")
        assert letter["MessageBody"] == entry["MessageBody"]
        assert letter["MessageAttributes"] == {
            **entry["MessageAttributes"],
            "reason": {"DataType": "String", "StringValue": "of a newer version"},
            "message_id": {"DataType": "String", "StringValue": "m1"},
        }


@pytest.mark.parametrize("body", ["nonsense", "[]", '{"priority":[],"task":7,"tenant_id":""}', ""])
def test_a_letter_of_a_message_that_is_not_ours_has_the_reason(body: str) -> None:
    letter = letter_entry(received({"MessageBody": body}), "it is nonsense")
    assert letter["MessageBody"] == (body or " ")
    assert list(letter["MessageAttributes"]) == ["reason", "message_id"]


def test_a_letter_has_no_more_attributes_than_sqs_takes_and_always_the_reason() -> None:
    """Binary ones stay behind: Lambda passes them on in another form."""
    found = record(encode(Message("t1", "acme", "task", 1)))
    text = {"stringValue": "7", "dataType": "Number"}
    binary = {"binaryValue": "Bw==", "dataType": "Binary"}
    found["messageAttributes"] = {"first": binary, "reason": text} | {
        f"a{n}": text for n in range(10)
    }
    attributes = letter_entry(found, "it is nonsense")["MessageAttributes"]
    assert list(attributes) == [*(f"a{n}" for n in range(8)), "reason", "message_id"]
    assert attributes["a0"] == {"StringValue": "7", "DataType": "Number"}
    assert attributes["reason"]["StringValue"] == "it is nonsense"


@given(st.lists(st.integers(0, 700_000), max_size=40))
def test_batches_are_in_order_and_within_both_limits(sizes: list[int]) -> None:
    entries = [{"MessageBody": "x" * size, "MessageAttributes": {}} for size in sizes]
    made = list(batches(entries))
    assert [index for batch in made for index in batch] == list(range(len(entries)))
    for batch in made:
        assert 1 <= len(batch) <= 10
        assert sum(entry_bytes(entries[index]) for index in batch) <= 1_048_576


def test_a_size_counts_bytes_and_attributes() -> None:
    entry = {
        "MessageBody": "é",
        "MessageAttributes": {"a": {"DataType": "String", "StringValue": "ü"}},
    }
    assert entry_bytes(entry) == 2 + 1 + 6 + 2


def client_error(code: str, message: str = "", status: int = 400) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "Whatever",
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (client_error("ServiceUnavailable", status=503), "unavailable"),
        (client_error("SomethingNew", status=500), "unavailable"),
        (client_error("SomethingNew"), "refused"),
        (NoCredentialsError(), "credentials"),
        (EndpointConnectionError(endpoint_url="http://sqs"), "unreachable"),
        (ReadTimeoutError(endpoint_url="http://sqs"), "unreachable"),
        (ValueError("odd"), "failed"),
    ],
)
def test_errors_have_a_stable_reason(error: Exception, reason: str) -> None:
    assert complaint(error).reason == reason


@pytest.mark.parametrize(
    "why",
    [
        "The receipt handle has expired.",
        "Message does not exist or is not available for visibility timeout change.",
    ],
)
def test_every_way_of_saying_that_a_receipt_is_stale_is_understood(why: str) -> None:
    aws = f"Value X for parameter ReceiptHandle is invalid. Reason: {why}"
    assert refusal("InvalidParameterValue", aws).reason == "stale_receipt"
    assert refusal("ReceiptHandleIsInvalid", "").reason == "stale_receipt"
    assert refusal("MessageNotInflight", "").reason == "stale_receipt"
    too_long = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    assert refusal("InvalidParameterValue", too_long).reason == "refused"


def test_queues_are_called_by_prefix_or_given_by_url() -> None:
    names = QueueNames("shop", {1: "https://sqs.eu-west-1.amazonaws.com/1/urgent", 2: ""})
    assert [names.name(p) for p in range(4)] == [
        "shop-critical",
        "urgent",
        "shop-normal",
        "shop-low",
    ]
    assert names.dead_name(1) == "urgent-dead"
    assert names.url(None, "urgent-dead") == "https://sqs.eu-west-1.amazonaws.com/1/urgent-dead"
    assert [names.is_given(p) for p in range(4)] == [False, True, False, False]


def test_without_a_region_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from taskflow.adapters.queue.sqs.client import sqs_clients

    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="region"):
        sqs_clients(region=None)
