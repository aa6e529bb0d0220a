"""The queue of one event, on a real SQS server: what is handed out, what comes back and when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from taskflow.bootstrap import build_event_queue
from taskflow.ports.events import EventQueue
from taskflow.ports.queue import Message, Selector
from tests.integration.lambdas.conftest import Cloud
from tests.support.lambda_events import EventSource

pytestmark = pytest.mark.xdist_group("lambdas-event_queue")  # they share a cloud and functions

Event = tuple[EventQueue, list[dict[str, Any]]]


@pytest.fixture
def source(cloud: Cloud) -> EventSource:
    return cloud.source()


@pytest.fixture
def event(cloud: Cloud, source: EventSource) -> Callable[..., Event]:
    """An event with messages of these names (and priorities), begun."""

    def make(*names: str, priorities: tuple[int, ...] = ()) -> Event:
        sender = cloud.runtime.queue
        messages = [Message(name, "default", name, 2) for name in names]
        assert sender.enqueue(messages) == []
        records = sorted(source.receive(len(names)), key=lambda record: record["body"])
        for record, priority in zip(records, priorities, strict=False):
            record["body"] = record["body"].replace('"priority":2', f'"priority":{priority}')
        queue = build_event_queue(cloud.runtime.settings, cloud.runtime.clock)
        queue.begin(records)
        return queue, records

    return make


def names(queue: EventQueue, most: int = 10, **options: Any) -> list[str]:
    options = {"timeout_seconds": 0, **options}
    return [delivery.task for delivery in queue.dequeue(max_messages=most, **options)]


def test_the_most_urgent_are_handed_out_first_and_each_once(event: Callable[..., Event]) -> None:
    queue, _ = event("a", "b", "c", priorities=(2, 0, 1))
    assert names(queue, 2) == ["b", "c"]
    assert names(queue) == ["a"]
    assert names(queue) == []


def test_what_is_acked_is_not_returned_and_the_rest_is_visible_at_once(
    event: Callable[..., Event], source: EventSource
) -> None:
    queue, records = event("a", "b")
    [delivery] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.ack([delivery.receipt, "unknown"])
    assert queue.end(30) == [records[1]["messageId"]]
    source.settle(records[:1], {"batchItemFailures": []})
    [again] = source.receive(1)
    assert again["messageId"] == records[1]["messageId"]
    assert again["attributes"]["ApproximateReceiveCount"] == "2"


def test_a_message_nacked_for_a_moment_is_handed_out_here_again(
    event: Callable[..., Event],
) -> None:
    queue, _ = event("a")
    [first] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.nack([first.receipt], delay_seconds=0.05)
    assert names(queue) == []
    assert names(queue, timeout_seconds=30) == ["a"]
    assert not queue.wait_until_settled(0)


def test_a_message_nacked_for_long_leaves_this_event(
    event: Callable[..., Event], cloud: Cloud
) -> None:
    queue, records = event("a")
    [delivery] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.nack([delivery.receipt], delay_seconds=60)
    assert names(queue) == []
    assert queue.wait_until_settled(0)
    assert queue.end(30) == [records[0]["messageId"]]
    assert cloud.waiting() == (0, 1)


def test_what_the_selector_leaves_out_is_settled_only_when_nothing_runs_any_more(
    event: Callable[..., Event], cloud: Cloud
) -> None:
    queue, records = event("a", "b")
    without_b = Selector(excluded=frozenset({"b"}))
    [running] = queue.dequeue(max_messages=2, timeout_seconds=0, selector=without_b)
    assert names(queue, selector=without_b) == []
    assert not queue.wait_until_settled(0)  # the end of a may let b in
    queue.ack([running.receipt])
    assert names(queue, selector=without_b) == []
    assert queue.wait_until_settled(0)
    assert queue.end(30) == [records[1]["messageId"]]
    assert cloud.waiting() == (0, 2)  # b, later; a is not deleted: nobody played Lambda here


def test_the_end_of_what_runs_wakes_who_waits_for_something_else(
    event: Callable[..., Event],
) -> None:
    queue, _ = event("a", "b")
    without_b = Selector(excluded=frozenset({"b"}))
    [running] = queue.dequeue(max_messages=2, timeout_seconds=0, selector=without_b)
    found: list[Any] = []
    waiting = threading.Thread(
        target=lambda: found.append(names(queue, timeout_seconds=60, selector=without_b))
    )
    waiting.start()
    queue.ack([running.receipt])
    waiting.join(30)
    assert found == [[]]  # now its selector can be made anew
    assert names(queue) == ["b"]


def test_given_up_nothing_more_is_handed_out_and_all_comes_back_later(
    event: Callable[..., Event], cloud: Cloud
) -> None:
    queue, records = event("a", "b")
    [running] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.give_up()
    assert names(queue) == []
    assert not queue.wait_until_settled(0)  # one still runs
    queue.ack([running.receipt])
    assert queue.wait_until_settled(0)
    assert queue.end(30) == [records[1]["messageId"]]
    assert cloud.waiting() == (0, 2)


def test_receipts_of_an_event_that_is_over_change_nothing(event: Callable[..., Event]) -> None:
    queue, _ = event("a")
    [old] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.end(30)
    queue.ack([old.receipt])
    queue.nack([old.receipt])
    queue.extend([old.receipt], 30)
    assert names(queue) == []
    assert queue.end(30) == []


def test_a_message_put_away_is_in_the_dead_letter_queue_with_the_reason(
    event: Callable[..., Event], cloud: Cloud
) -> None:
    queue, records = event("a")
    [delivery] = queue.dequeue(max_messages=1, timeout_seconds=0)
    queue.dead_letter([delivery.receipt, "unknown"], "nobody wants it")
    assert queue.end(30) == []
    [dead] = cloud.source(dead=True).receive(1)
    assert dead["body"] == records[0]["body"]
    assert dead["messageAttributes"]["reason"]["stringValue"] == "nobody wants it"


def test_messages_are_sent_between_events_too(event: Callable[..., Event], cloud: Cloud) -> None:
    queue, _ = event("a")
    queue.end(30)
    assert queue.enqueue([Message("later", "default", "later", 2, delay_seconds=600)]) == []
    assert queue.durable
    assert queue.max_delay_seconds == 900
    assert sum(depth.delayed for depth in queue.depths().values()) == 1
    queue.close()
