"""A message is handed out, hidden, and comes back or not."""

from __future__ import annotations

import pytest

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import QueueDepth
from tests.contract.queue.harness import Call, QueueHarness, ids, message, messages, take


def test_a_delivery_carries_what_was_sent(harness: QueueHarness) -> None:
    sent = message("t1", tenant_id="acme", task="send_email", priority=TaskPriority.HIGH)
    assert harness.queue.enqueue([sent]) == []
    [delivery] = take(harness.queue)
    assert delivery[:4] == ("t1", "acme", "send_email", TaskPriority.HIGH)
    assert delivery.receive_count == 1


def test_an_empty_queue_returns_nothing_at_once(harness: QueueHarness) -> None:
    assert take(harness.queue) == []


def test_dequeue_returns_no_more_than_it_was_asked_for(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a", "b", "c"))
    assert ids(take(harness.queue, 2)) == ["a", "b"]
    assert ids(take(harness.queue, 2)) == ["c"]


def test_a_message_stays_hidden_until_its_visibility_timeout(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [first] = take(harness.queue)
    harness.advance(harness.visibility_timeout_seconds - 1)
    assert take(harness.queue) == []
    harness.advance(2)
    [again] = take(harness.queue)
    assert (again.task_id, again.receive_count) == ("t1", 2)
    assert again.receipt != first.receipt


def test_an_acked_message_never_comes_back(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a", "b"))
    first, second = take(harness.queue)
    harness.queue.ack([first.receipt])
    harness.advance(harness.visibility_timeout_seconds + 1)
    assert ids(take(harness.queue)) == [second.task_id]


def test_a_nacked_message_comes_back_at_once(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [first] = take(harness.queue)
    harness.queue.nack([first.receipt])
    [again] = take(harness.queue)
    assert (again.task_id, again.receive_count) == ("t1", 2)


def test_a_nacked_message_comes_back_after_its_delay(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    harness.queue.nack([take(harness.queue)[0].receipt], delay_seconds=10)
    harness.advance(9)
    assert take(harness.queue) == []
    harness.advance(2)
    assert [(d.task_id, d.receive_count) for d in take(harness.queue)] == [("t1", 2)]


def test_extending_keeps_a_message_hidden_from_now_on(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [delivery] = take(harness.queue)
    harness.advance(harness.visibility_timeout_seconds - 1)
    harness.queue.extend([delivery.receipt], 20)
    harness.advance(19)
    assert take(harness.queue) == []
    harness.advance(2)
    assert ids(take(harness.queue)) == ["t1"]


def test_extending_can_also_bring_a_message_back_sooner(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    harness.queue.extend([take(harness.queue)[0].receipt], 2)
    harness.advance(3)
    assert ids(take(harness.queue)) == ["t1"]


def test_stale_receipts_do_nothing(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [stale] = take(harness.queue)
    harness.advance(harness.visibility_timeout_seconds + 1)
    [current] = take(harness.queue)
    harness.queue.ack([stale.receipt])
    harness.queue.nack([stale.receipt])
    harness.queue.extend([stale.receipt], 1)
    harness.queue.dead_letter([stale.receipt], "stale")
    harness.advance(2)
    assert take(harness.queue) == []
    harness.queue.nack([current.receipt])
    assert [(d.task_id, d.receive_count) for d in take(harness.queue)] == [("t1", 3)]


def test_unknown_receipts_do_nothing(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    harness.queue.ack(["nonsense"])
    harness.queue.nack(["nonsense"])
    harness.queue.extend(["nonsense"], 60)
    harness.queue.dead_letter(["nonsense"], "unknown")
    assert ids(take(harness.queue)) == ["t1"]


def test_a_delayed_message_is_not_handed_out_before_it_is_due(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("later", delay_seconds=10), message("now")])
    assert ids(take(harness.queue)) == ["now"]
    harness.advance(9)
    assert take(harness.queue) == []
    harness.advance(2)
    assert ids(take(harness.queue)) == ["later"]


def test_a_delay_longer_than_the_queue_can_hold_is_refused_and_the_rest_accepted(
    harness: QueueHarness,
) -> None:
    longest = harness.queue.max_delay_seconds
    too_long = message("too long", delay_seconds=longest + 1)
    [failure] = harness.queue.enqueue([message("a"), too_long, message("b", delay_seconds=longest)])
    assert failure.message == too_long
    assert "delay" in failure.reason
    assert ids(take(harness.queue)) == ["a"]
    harness.advance(longest + 1)
    assert "b" in ids(take(harness.queue))


def test_a_dead_lettered_message_never_comes_back(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    harness.queue.dead_letter([take(harness.queue)[0].receipt], "no such tenant")
    harness.advance(harness.visibility_timeout_seconds + 1)
    assert take(harness.queue) == []


def test_depths_tell_ready_delayed_and_in_flight_messages_of_each_priority(
    harness: QueueHarness,
) -> None:
    harness.queue.enqueue(
        [
            message("h1", priority=TaskPriority.HIGH),
            message("h2", priority=TaskPriority.HIGH),
            message("h3", priority=TaskPriority.HIGH, delay_seconds=60),
            message("l1", priority=TaskPriority.LOW),
        ]
    )
    [delivery] = take(harness.queue, 1)
    assert harness.queue.depths() == {
        TaskPriority.CRITICAL: QueueDepth(0, 0, 0),
        TaskPriority.HIGH: QueueDepth(ready=1, delayed=1, in_flight=1),
        TaskPriority.NORMAL: QueueDepth(0, 0, 0),
        TaskPriority.LOW: QueueDepth(ready=1, delayed=0, in_flight=0),
    }
    harness.queue.ack([delivery.receipt])
    assert harness.queue.depths()[TaskPriority.HIGH] == QueueDepth(1, 1, 0)


def test_a_closed_queue_hands_out_nothing_more(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a", "b"))
    take(harness.queue, 1)
    harness.queue.close()
    assert harness.queue.dequeue(max_messages=10, timeout_seconds=60) == []


def test_a_waiting_call_returns_with_what_is_sent_meanwhile(harness: QueueHarness) -> None:
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=60))
    harness.queue.enqueue([message("t1")])
    assert ids(waiting.result()) == ["t1"]


def test_a_waiting_call_returns_with_a_message_that_becomes_due(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1", delay_seconds=10)])
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=600))
    harness.advance(11)
    assert ids(waiting.result()) == ["t1"]


def test_a_waiting_call_returns_with_a_message_that_its_worker_let_go(
    harness: QueueHarness,
) -> None:
    harness.queue.enqueue([message("t1")])
    take(harness.queue)
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=600))
    harness.advance(harness.visibility_timeout_seconds + 1)
    assert [(d.task_id, d.receive_count) for d in waiting.result()] == [("t1", 2)]


@pytest.mark.parametrize("end", ["wake", "close"])
def test_a_waiting_call_returns_empty_handed_when_the_queue_is_told_so(
    harness: QueueHarness, end: str
) -> None:
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=600))
    assert waiting.result_while(getattr(harness.queue, end)) == []


def test_a_call_after_wake_waits_as_ever(harness: QueueHarness) -> None:
    harness.queue.wake()
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=60))
    harness.queue.enqueue([message("t1")])
    assert ids(waiting.result()) == ["t1"]


def test_a_waiting_call_returns_empty_handed_when_its_time_is_up(harness: QueueHarness) -> None:
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=600))
    assert waiting.result_while(lambda: harness.advance(601)) == []
