"""The queue of a process without a worker."""

from __future__ import annotations

import pytest

from taskflow.adapters.queue.detached import DetachedQueue
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import QueueDepth, TaskQueue
from tests.contract.queue.harness import Call, messages


def test_every_message_stays_in_the_outbox() -> None:
    queue: TaskQueue = DetachedQueue()
    sent = messages("a", "b")
    failures = queue.enqueue(sent)
    assert [failure.message for failure in failures] == sent
    assert {failure.reason for failure in failures} == {"no worker in this process"}
    assert queue.durable
    assert set(queue.depths().values()) == {QueueDepth(0, 0, 0)}
    assert set(queue.depths()) == set(TaskPriority)


@pytest.mark.parametrize("end", ["wake", "close"])
def test_waiting_ends_when_it_is_told_so(end: str) -> None:
    queue = DetachedQueue()
    waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60))
    assert waiting.result_while(getattr(queue, end)) == []


def test_waiting_ends_after_its_timeout() -> None:
    assert DetachedQueue().dequeue(max_messages=1, timeout_seconds=0.01) == []


def test_a_closed_queue_does_not_wait() -> None:
    queue = DetachedQueue()
    queue.close()
    assert Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60)).result(10) == []


def test_receipts_mean_nothing() -> None:
    queue = DetachedQueue()
    queue.ack(["1"])
    queue.nack(["1"])
    queue.extend(["1"], 5)
    queue.dead_letter(["1"], "odd")
    assert queue.dequeue(max_messages=1, timeout_seconds=0) == []
