"""An SQS queue on an emulator, seen through a proxy that counts, and does harm when asked to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskflow.adapters.queue.sqs.names import QueueNames
from taskflow.adapters.queue.sqs.queue import SQSTaskQueue
from taskflow.logs import LogEvent
from taskflow.ports.queue import Delivery
from tests.support import sqs
from tests.support.aws_proxy import AwsProxy, aws_proxy

MakeQueue = Callable[..., SQSTaskQueue]
Events = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def proxy(ministack_url: str) -> Iterator[AwsProxy]:
    with aws_proxy(ministack_url) as proxy:
        yield proxy


@pytest.fixture
def names(ministack_url: str) -> QueueNames:
    return sqs.provisioned(ministack_url)


@pytest.fixture
def make_queue(proxy: AwsProxy, names: QueueNames) -> Iterator[MakeQueue]:
    made: list[SQSTaskQueue] = []

    def make(**options: Any) -> SQSTaskQueue:
        made.append(sqs.queue(proxy.url, options.pop("names", names), **options))
        return made[-1]

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> SQSTaskQueue:
    return make_queue()


@pytest.fixture
def events(caplog: pytest.LogCaptureFixture) -> Events:
    """The fields of every line with this event, and its ``level``."""
    caplog.set_level(logging.INFO, "taskflow")

    def find(event: str) -> list[dict[str, Any]]:
        return [
            {**record.msg.fields, "level": record.levelname}
            for record in list(caplog.records)
            if isinstance(record.msg, LogEvent) and record.msg.event == event
        ]

    return find


def take(queue: SQSTaskQueue, count: int = 1, *, most: int = 10) -> list[Delivery]:
    """At least ``count``, in as many calls as it takes."""
    found: list[Delivery] = []

    def is_enough() -> bool:
        found.extend(queue.dequeue(max_messages=most, timeout_seconds=1))
        return len(found) >= count

    sqs.until(is_enough)
    return found
