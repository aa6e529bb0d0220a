"""A message is handed out, hidden, and comes back or not."""

from __future__ import annotations

import pytest

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import QueueDepth, Selector
from tests.contract.queue.harness import Call, QueueHarness, ids, message, messages


def test_a_delivery_carries_what_was_sent(harness: QueueHarness) -> None:
    sent = message("t1", tenant_id="acme", task="send_email", priority=TaskPriority.HIGH)
    assert harness.queue.enqueue([sent]) == []
    [delivery] = harness.take()
    assert delivery[:4] == ("t1", "acme", "send_email", TaskPriority.HIGH)
    assert delivery.receive_count == 1


def test_names_of_any_characters_and_length_arrive(harness: QueueHarness) -> None:
    tenants = ["Ünï cødé", "a b\tc", "x" * 300, "\x07\ufffe", "-"]
    sent = [message(f"t{n}", tenant_id=tenant) for n, tenant in enumerate(tenants)]
    assert harness.queue.enqueue(sent) == []
    taken = harness.take(len(tenants))
    assert sorted((d.task_id, d.tenant_id) for d in taken) == sorted(
        (m.task_id, m.tenant_id) for m in sent
    )


def test_an_empty_queue_returns_nothing_at_once(harness: QueueHarness) -> None:
    assert harness.queue.dequeue(max_messages=10, timeout_seconds=0) == []


def test_dequeue_returns_no_more_than_it_was_asked_for(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a", "b", "c"))
    first = harness.take(2, most=2)
    assert len(first) == 2
    assert sorted(ids(first) + ids(harness.take())) == ["a", "b", "c"]


def test_a_message_stays_hidden_until_its_visibility_timeout(brief: QueueHarness) -> None:
    brief.queue.enqueue([message("t1")])
    sent_at = brief.now()
    [first] = brief.take()
    [again] = brief.take_from(sent_at + brief.visibility_timeout_seconds)
    assert (again.task_id, again.receive_count) == ("t1", 2)
    assert again.receipt != first.receipt


def test_an_acked_message_never_comes_back(brief: QueueHarness) -> None:
    brief.queue.enqueue(messages("a", "b"))
    sent_at = brief.now()
    first, second = brief.take(2)
    brief.queue.ack([first.receipt])
    again = brief.take_from(sent_at + brief.visibility_timeout_seconds)
    assert ids(again) == [second.task_id]
    assert brief.nothing()


def test_a_nacked_message_comes_back_at_once(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [first] = harness.take()
    harness.queue.nack([first.receipt])
    [again] = harness.take()
    assert (again.task_id, again.receive_count) == ("t1", 2)


def test_a_nacked_message_comes_back_after_its_delay(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [first] = harness.take()
    nacked_at = harness.now()
    harness.queue.nack([first.receipt], delay_seconds=harness.delay_seconds)
    [again] = harness.take_from(nacked_at + harness.delay_seconds)
    assert (again.task_id, again.receive_count) == ("t1", 2)


def test_extending_keeps_a_message_hidden_from_now_on(brief: QueueHarness) -> None:
    brief.queue.enqueue([message("t1")])
    [delivery] = brief.take()
    brief.pass_time(brief.visibility_timeout_seconds - 1)
    extended_at = brief.now()
    seconds = 2 * brief.visibility_timeout_seconds
    brief.queue.extend([delivery.receipt], seconds)
    assert ids(brief.take_from(extended_at + seconds)) == ["t1"]


def test_extending_can_also_bring_a_message_back_sooner(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    [first] = harness.take()
    extended_at = harness.now()
    harness.queue.extend([first.receipt], harness.delay_seconds)
    assert ids(harness.take_from(extended_at + harness.delay_seconds)) == ["t1"]
    assert harness.now() < extended_at + harness.visibility_timeout_seconds


def test_stale_receipts_do_nothing(brief: QueueHarness) -> None:
    brief.queue.enqueue([message("t1")])
    sent_at = brief.now()
    [stale] = brief.take()
    [current] = brief.take_from(sent_at + brief.visibility_timeout_seconds)
    brief.queue.ack([stale.receipt])
    brief.queue.nack([stale.receipt])
    brief.queue.extend([stale.receipt], 1)
    brief.queue.dead_letter([stale.receipt], "stale")
    brief.pass_time(2)
    assert brief.nothing()
    brief.queue.nack([current.receipt])
    assert [(d.task_id, d.receive_count) for d in brief.take()] == [("t1", 3)]


def test_receipts_that_were_used_do_nothing(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("acked", "kept"))
    receipts = {delivery.task_id: delivery.receipt for delivery in harness.take(2)}
    for _ in range(2):
        harness.queue.ack([receipts["acked"]])
    harness.queue.nack(list(receipts.values()))
    harness.queue.ack([receipts["kept"]])
    assert ids(harness.take()) == ["kept"]


def test_unknown_receipts_do_nothing(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1")])
    harness.queue.ack(["nonsense"])
    harness.queue.nack(["nonsense"])
    harness.queue.extend(["nonsense"], 60)
    harness.queue.dead_letter(["nonsense"], "unknown")
    assert ids(harness.take()) == ["t1"]


def test_a_delayed_message_is_not_handed_out_before_it_is_due(harness: QueueHarness) -> None:
    sent_at = harness.now()
    harness.queue.enqueue([message("later", delay_seconds=harness.delay_seconds), message("now")])
    assert ids(harness.take()) == ["now"]
    assert ids(harness.take_from(sent_at + harness.delay_seconds)) == ["later"]


def test_a_fraction_of_a_second_of_delay_is_not_lost(harness: QueueHarness) -> None:
    sent_at = harness.now()
    harness.queue.enqueue([message("later", delay_seconds=0.4)])
    assert ids(harness.take_from(sent_at + 0.4)) == ["later"]


def test_a_delay_longer_than_the_queue_can_hold_is_refused_and_the_rest_accepted(
    harness: QueueHarness,
) -> None:
    longest = harness.queue.max_delay_seconds
    too_long = message("too long", delay_seconds=longest + 1)
    [failure] = harness.queue.enqueue([message("a"), too_long, message("b", delay_seconds=longest)])
    assert failure.message == too_long
    assert "delay" in failure.reason
    assert ids(harness.take()) == ["a"]
    assert harness.queue.depths()[TaskPriority.NORMAL].delayed == 1


def test_a_dead_lettered_message_never_comes_back(brief: QueueHarness) -> None:
    brief.queue.enqueue(messages("bad", "good"))
    sent_at = brief.now()
    receipts = {delivery.task_id: delivery.receipt for delivery in brief.take(2)}
    brief.queue.dead_letter([receipts["bad"]], "no such tenant")
    again = brief.take_from(sent_at + brief.visibility_timeout_seconds)
    assert ids(again) == ["good"]
    assert brief.nothing()


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
    high = Selector(priorities=frozenset({int(TaskPriority.HIGH)}))
    [delivery] = harness.take(most=1, selector=high)
    assert harness.queue.depths() == {
        TaskPriority.CRITICAL: QueueDepth(0, 0, 0),
        TaskPriority.HIGH: QueueDepth(ready=1, delayed=1, in_flight=1),
        TaskPriority.NORMAL: QueueDepth(0, 0, 0),
        TaskPriority.LOW: QueueDepth(ready=1, delayed=0, in_flight=0),
    }
    harness.queue.ack([delivery.receipt])
    harness.eventually(lambda: harness.queue.depths()[TaskPriority.HIGH] == QueueDepth(1, 1, 0))


def test_a_closed_queue_hands_out_nothing_more(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a", "b"))
    harness.take(most=1)
    harness.queue.close()
    assert harness.queue.dequeue(max_messages=10, timeout_seconds=60) == []


def test_a_waiting_call_returns_with_what_is_sent_meanwhile(harness: QueueHarness) -> None:
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=60))
    harness.queue.enqueue([message("t1")])
    assert ids(waiting.result()) == ["t1"]


def test_a_waiting_call_returns_with_a_message_that_becomes_due(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1", delay_seconds=harness.delay_seconds)])
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=600))
    harness.pass_time(harness.delay_seconds + 1)
    assert ids(waiting.result()) == ["t1"]


def test_a_waiting_call_returns_with_a_message_that_its_worker_let_go(
    brief: QueueHarness,
) -> None:
    brief.queue.enqueue([message("t1")])
    brief.take()
    waiting = Call(lambda: brief.queue.dequeue(max_messages=5, timeout_seconds=600))
    brief.pass_time(brief.visibility_timeout_seconds + 1)
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
    seconds = harness.delay_seconds
    started_at = harness.now()
    waiting = Call(lambda: harness.queue.dequeue(max_messages=5, timeout_seconds=seconds))
    assert waiting.result_while(lambda: harness.pass_time(seconds + 1)) == []
    assert harness.now() >= started_at + seconds
