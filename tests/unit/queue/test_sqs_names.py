"""Which SQS queue a message belongs to, and what the queues are called."""

from __future__ import annotations

import pytest

from taskflow.adapters.queue.sqs.names import LONG, QueueNames, priority_of
from taskflow.ports.queue import Message


def message(timeout_seconds: float, *, priority: int = 1) -> Message:
    return Message("t1", "acme", "task", priority, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    ("timeout_seconds", "name"),
    [(0.0, "shop-high"), (60.0, "shop-high"), (60.001, "shop-long-high"), (1e6, "shop-long-high")],
)
def test_a_timeout_over_the_threshold_makes_a_task_a_long_one(
    timeout_seconds: float, name: str
) -> None:
    names = QueueNames("shop", long_task_seconds=60.0)
    queue = names.queue_for(message(timeout_seconds))
    assert names.name(queue) == name
    assert names.dead_name(queue) == f"{name}-dead"
    assert priority_of(queue) == 1


def test_without_a_threshold_no_task_is_long() -> None:
    names = QueueNames("shop")
    assert names.queues == (0, 1, 2, 3)
    assert names.queue_for(message(1e6)) == 1


def test_urls_are_those_of_ordinary_queues() -> None:
    names = QueueNames(
        "shop", {1: "https://sqs.eu-west-1.amazonaws.com/1/urgent"}, long_task_seconds=60.0
    )
    assert (names.name(1), names.is_given(1)) == ("urgent", True)
    assert (names.name(1 + LONG), names.is_given(1 + LONG)) == ("shop-long-high", False)
    assert len(names.queues) == 8
