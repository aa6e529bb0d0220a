"""The queue adapter beside bare boto3: the same messages sent, received and deleted in batches of ten."""

from __future__ import annotations

import time
from typing import Any

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Message
from tests.support import aws
from tests.support.sqs import provisioned, queue

_BATCH = 10


def adapter_per_second(url: str, messages: int) -> float:
    """Messages through enqueue, dequeue and ack, a hundred at a time, until the emulator has none left."""
    names = provisioned(url)
    subject = queue(url, names, depths_cache_seconds=0.0)
    try:
        began = time.perf_counter()
        for start in range(0, messages, 100):
            sent = [
                Message(f"task-{n}", "default", "noop", int(TaskPriority.NORMAL))
                for n in range(start, start + 100)
            ]
            assert subject.enqueue(sent) == []
        received = 0
        while received < messages:
            deliveries = subject.dequeue(max_messages=100, timeout_seconds=10)
            subject.ack([delivery.receipt for delivery in deliveries])
            received += len(deliveries)
        while any(depth.ready or depth.in_flight for depth in subject.depths().values()):
            time.sleep(0.005)
        return messages / (time.perf_counter() - began)
    finally:
        subject.close()


def bare_per_second(url: str, messages: int) -> float:
    """The calls themselves, one after the other."""
    client = aws.client("sqs", url)
    queue_url = client.create_queue(QueueName=aws.unique("bare"))["QueueUrl"]
    body = '{"v":1,"id":"task-00000","tenant":"default","task":"noop","priority":2}'
    entries: list[dict[str, Any]] = [
        {"Id": str(n), "MessageBody": body, "MessageGroupId": "default"} for n in range(_BATCH)
    ]
    began = time.perf_counter()
    for _ in range(messages // _BATCH):
        client.send_message_batch(QueueUrl=queue_url, Entries=entries)
    received = 0
    while received < messages:
        answer = client.receive_message(
            QueueUrl=queue_url, MaxNumberOfMessages=_BATCH, WaitTimeSeconds=1
        )
        got = answer.get("Messages", [])
        received += len(got)
        client.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
                for n, message in enumerate(got)
            ],
        )
    seconds = time.perf_counter() - began
    client.close()
    return messages / seconds
