"""What cannot be worked on in a Lambda function leaves its queue only when the dead-letter queue has it."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.adapters.queue.sqs.event_messages import EventMessages, Return
from taskflow.adapters.queue.sqs.limits import BATCH_BYTES
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.core.task import TaskPriority
from tests.integration.queue_sqs.conftest import Events
from tests.support import sqs
from tests.support.aws_proxy import Answer, AwsProxy

NOT_SQS = Answer(200, {"Content-Type": "text/html"}, b"<html>Please log in to this network</html>")


@pytest.fixture
def event_messages(proxy: AwsProxy, names: QueueNames) -> EventMessages:
    return EventMessages(lambda: sqs.clients(proxy.url).calls, names)


def record(names: QueueNames, body: str) -> dict[str, Any]:
    queue = names.name(TaskPriority.NORMAL)
    return {
        "messageId": "m1",
        "receiptHandle": "r1",
        "body": body,
        "attributes": {},
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue}",
    }


def test_an_answer_that_is_not_sqs_s_puts_nothing_away(
    event_messages: EventMessages, proxy: AwsProxy, names: QueueNames
) -> None:
    """Else Lambda would delete it, and it would be nowhere."""
    with proxy.intercepting(lambda asked: NOT_SQS):
        assert not event_messages.put_away(record(names, "nonsense"), "it is nonsense")
    with proxy.intercepting(lambda asked: NOT_SQS if asked.operation == "SendMessage" else None):
        assert not event_messages.put_away(record(names, "nonsense"), "it is nonsense")
    assert event_messages.put_away(record(names, "nonsense"), "it is nonsense")


@pytest.mark.parametrize("answer", [NOT_SQS, Answer.of({}), Answer.of({"Successful": []})])
def test_what_an_answer_does_not_speak_of_was_not_given_back(
    event_messages: EventMessages,
    proxy: AwsProxy,
    names: QueueNames,
    events: Events,
    answer: Answer,
) -> None:
    with proxy.intercepting(
        lambda asked: answer if asked.operation == "ChangeMessageVisibilityBatch" else None
    ):
        event_messages.show_again([Return(names.name(TaskPriority.NORMAL), "r1", "m1", 0.0)])
    [line] = events("queue.not_given_back")
    assert "is this SQS?" in line["error"]


def test_reason_and_id_go_along_as_far_as_an_attribute_can_say_them(
    event_messages: EventMessages, names: QueueNames, ministack_url: str
) -> None:
    found = record(names, "nonsense")
    found["messageAttributes"] = {"traceparent": {"stringValue": "00-1-2-01", "dataType": "String"}}
    assert event_messages.put_away(found, "no such tenant:\x00 acme")
    [letter] = sqs.receive(ministack_url, names.dead_name(TaskPriority.NORMAL))
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert attributes == {
        "traceparent": "00-1-2-01", "reason": "no such tenant:? acme", "message_id": "m1"
    }  # fmt: skip


def test_a_message_as_large_as_can_be_goes_without_them(
    event_messages: EventMessages, proxy: AwsProxy, names: QueueNames
) -> None:
    """AWS counts attributes; the emulators do not."""
    assert event_messages.put_away(record(names, "x" * BATCH_BYTES), "it is nonsense")
    [request] = proxy.of("SendMessage")
    assert len(request.json["MessageBody"]) == BATCH_BYTES
    assert not request.json.get("MessageAttributes")
