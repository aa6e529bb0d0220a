"""What the queue asks of SQS, counted at the server: every request costs money."""

from __future__ import annotations

import json
import time

import pytest

from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.queue import SQSTaskQueue
from taskflow.bootstrap import build_clock, build_queue
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Selector
from taskflow.settings import load
from tests.contract.queue.harness import Call, message, messages
from tests.integration.queue_sqs.conftest import MakeQueue, take
from tests.support import aws, sqs
from tests.support.aws_proxy import Answer, AwsProxy, Request

PER_TASK = (
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
)


def requests_of_tasks(proxy: AwsProxy) -> int:
    return sum(proxy.counts[operation] for operation in PER_TASK)


def test_an_idle_worker_only_polls_and_each_queue_once_at_a_time(
    proxy: AwsProxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(wait_seconds=1)
    started_at = time.monotonic()
    waiting = Call(lambda: queue.dequeue(max_messages=4, timeout_seconds=60))
    sqs.until(lambda: proxy.counts["ReceiveMessage"] >= 12)
    polls = (time.monotonic() - started_at) / 1 + 1  # of one second each, and the one under way
    counts = proxy.counts
    queue.wake()
    assert waiting.result() == []
    assert set(counts) == {"GetQueueUrl", "ReceiveMessage"}
    assert counts["GetQueueUrl"] == 4
    assert counts["ReceiveMessage"] <= 4 * polls


def test_polls_take_twenty_seconds_unless_the_settings_say_otherwise(
    proxy: AwsProxy, names: QueueNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    settings = load(queue_backend="sqs", queue_prefix=names.name(0).rpartition("-")[0])
    queue = build_queue(settings, build_clock(), works=True)
    # So that nothing is held up by it afterwards: the proxy answers for SQS.
    with proxy.intercepting(lambda r: Answer.of({}) if r.operation == "ReceiveMessage" else None):
        queue.dequeue(max_messages=4, timeout_seconds=0)
        sqs.until(
            lambda: (
                {request.queue for request in proxy.of("ReceiveMessage")}
                >= {names.name(p) for p in TaskPriority}
            )
        )
        queue.close()
    [asked] = [
        json.loads(body)
        for body in {request.body for request in proxy.of("ReceiveMessage")}
        if b"-low" in body
    ]
    assert asked["WaitTimeSeconds"] == 20
    assert asked["VisibilityTimeout"] == 2 * settings.lease_seconds
    assert asked["MaxNumberOfMessages"] == 4


def test_nothing_is_received_that_nobody_asked_for(proxy: AwsProxy, queue: SQSTaskQueue) -> None:
    queue.enqueue(messages(*(f"t{n}" for n in range(50))))
    taken = take(queue, 3, most=3)
    assert len(taken) == 3
    assert all(request.json["MaxNumberOfMessages"] <= 3 for request in proxy.of("ReceiveMessage"))
    depth = queue.depths()[TaskPriority.NORMAL]
    assert (depth.ready, depth.in_flight) == (47, 3)


def test_a_process_without_worker_receives_nothing(
    proxy: AwsProxy, names: QueueNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    settings = load(queue_backend="sqs", queue_prefix=names.name(0).rpartition("-")[0])
    queue = build_queue(settings, build_clock(), works=False)
    assert queue.enqueue(messages("t1")) == []
    assert queue.dequeue(max_messages=10, timeout_seconds=0.05) == []
    waiting = Call(lambda: queue.dequeue(max_messages=10, timeout_seconds=60))
    assert waiting.result_while(queue.wake) == []
    queue.close()
    assert proxy.counts["ReceiveMessage"] == 0
    assert queue.durable


def test_a_worker_polls_only_the_queues_of_its_priorities(
    proxy: AwsProxy, names: QueueNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.environment(proxy.url).items():
        monkeypatch.setenv(name, value)
    settings = load(
        queue_backend="sqs",
        queue_prefix=names.name(0).rpartition("-")[0],
        worker_priorities="high,low",
        queue_poll_seconds=1,
    )
    queue = build_queue(settings, build_clock(), works=True)
    waiting = Call(
        lambda: queue.dequeue(
            max_messages=10, timeout_seconds=60, selector=Selector(priorities=settings.priorities)
        )
    )
    sqs.until(lambda: proxy.counts["ReceiveMessage"] >= 4)
    queue.close()
    assert waiting.result() == []
    assert {request.queue for request in proxy.of("ReceiveMessage")} == {
        names.name(TaskPriority.HIGH),
        names.name(TaskPriority.LOW),
    }


def test_under_load_a_task_costs_little_more_than_three_tenths_of_a_request(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    count = 1_000
    for first in range(0, count, 100):
        queue.enqueue(messages(*(f"t{n}" for n in range(first, first + 100))))
    done = 0
    while done < count:
        deliveries = queue.dequeue(max_messages=256, timeout_seconds=10)
        queue.ack([delivery.receipt for delivery in deliveries])
        done += len(deliveries)
    sqs.until(lambda: not any(queue.depths()[TaskPriority.NORMAL]))
    assert requests_of_tasks(proxy) / count <= 0.35


def test_one_by_one_a_task_costs_at_most_three_requests(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    count = 10
    normal = Selector(priorities=frozenset({int(TaskPriority.NORMAL)}))
    for n in range(count):
        waiting = Call(lambda: queue.dequeue(max_messages=4, timeout_seconds=60, selector=normal))
        queue.enqueue(messages(f"t{n}"))
        [delivery] = waiting.result()
        queue.ack([delivery.receipt])
        sqs.until(lambda deleted=n + 1: proxy.counts["DeleteMessageBatch"] == deleted)
    empty = 1  # the poll that found nothing until the next one came, if a second went by
    assert requests_of_tasks(proxy) <= 3 * count + empty


def test_a_single_ack_goes_out_at_once_and_what_comes_meanwhile_together(
    proxy: AwsProxy, queue: SQSTaskQueue
) -> None:
    queue.enqueue(messages(*(f"t{n}" for n in range(24))))
    first, *rest = take(queue, 24, most=24)
    held: list[Request] = []

    def hold(request: Request) -> Answer | None:
        """The first delete is answered when all the acks have been given."""
        if request.operation == "DeleteMessageBatch" and not held:
            held.append(request)
            for delivery in rest:
                queue.ack([delivery.receipt])
        return None

    with proxy.intercepting(hold):
        queue.ack([first.receipt])
        sqs.until(lambda: proxy.counts["DeleteMessageBatch"] == 4)
    sizes = [len(request.json["Entries"]) for request in proxy.of("DeleteMessageBatch")]
    assert sizes == [1, 10, 10, 3]


def test_messages_are_sent_ten_at_a_time_and_their_attributes_say_whose_they_are(
    proxy: AwsProxy, queue: SQSTaskQueue, ministack_url: str, names: QueueNames
) -> None:
    sent = [message(f"t{n}", tenant_id="acme", task="mail.send", priority=1) for n in range(25)]
    assert queue.enqueue(sent) == []
    sizes = [len(request.json["Entries"]) for request in proxy.of("SendMessageBatch")]
    assert sizes == [10, 10, 5]
    [found, *_] = sqs.receive(ministack_url, names.name(TaskPriority.HIGH))
    attributes = {key: value["StringValue"] for key, value in found["MessageAttributes"].items()}
    assert attributes == {"priority": "high", "tenant": "acme", "task": "mail.send"}
    assert found["Attributes"]["MessageGroupId"] == "acme"


def test_a_batch_holds_no_more_than_a_mebibyte(proxy: AwsProxy, queue: SQSTaskQueue) -> None:
    large = [message(f"t{n}", tenant_id="x" * 300_000) for n in range(7)]
    too_large = message("too large", tenant_id="x" * 2_000_000)
    [failure] = queue.enqueue([*large, too_large])
    assert failure.message == too_large
    assert "1048576 bytes" in failure.reason
    sizes = [len(request.json["Entries"]) for request in proxy.of("SendMessageBatch")]
    assert sizes == [3, 3, 1]
