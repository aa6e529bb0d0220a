"""TaskFlow's SQS queue on an emulator, for tests and benchmarks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from unittest import mock

from taskflow.adapters.queue.sqs.client import Clients, sqs_clients
from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.provision import provision
from taskflow.adapters.queue.sqs.queue import SQSTaskQueue
from taskflow.core.task import TaskPriority
from tests.support import aws

PATIENCE_SECONDS = 60.0


@lru_cache
def clients(url: str) -> Clients:
    """Made as TaskFlow makes them, from AWS's own variables. Shared: they cost more than most tests."""
    with mock.patch.dict("os.environ", aws.environment(url)):
        return sqs_clients(region=aws.REGION, receivers=16)


def provisioned(
    url: str, *, visibility_timeout_seconds: float = 30.0, long_task_seconds: float = 0.0
) -> QueueNames:
    """New queues on the emulator."""
    names = QueueNames(aws.unique("q"), long_task_seconds=long_task_seconds)
    provision(clients(url).calls, names, visibility_timeout_seconds=visibility_timeout_seconds)
    return names


def queue(
    url: str,
    names: QueueNames,
    *,
    visibility_timeout_seconds: float = 30.0,
    serves: Iterable[int] = tuple(TaskPriority),
    wait_seconds: int = 1,
    depths_cache_seconds: float = 0.0,
    park_seconds: float = 1.0,
    starvation_every: int = 32,
    monotonic: Callable[[], float] = time.monotonic,
) -> SQSTaskQueue:
    """With shorter polls than in earnest, so that its threads end soon after it."""
    return SQSTaskQueue(
        clients(url),
        names,
        visibility_timeout_seconds=visibility_timeout_seconds,
        serves=serves,
        wait_seconds=wait_seconds,
        depths_cache_seconds=depths_cache_seconds,
        park_seconds=park_seconds,
        starvation_every=starvation_every,
        monotonic=monotonic,
        rng=random.Random(1),
    )


def receive(url: str, name: str, *, wait_seconds: int = 1) -> list[dict[str, Any]]:
    """Everything that is in a queue, with all there is to know about it, by a plain client. It stays hidden."""
    client = clients(url).calls
    found: list[dict[str, Any]] = []
    queue_url = client.get_queue_url(QueueName=name)["QueueUrl"]
    while True:
        answer = client.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=0 if found else wait_seconds,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        if not answer.get("Messages"):
            return found
        found += answer["Messages"]


def until(is_so: Callable[[], object], *, timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Return once ``is_so()`` is true. Raises AssertionError if it is not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.01)
