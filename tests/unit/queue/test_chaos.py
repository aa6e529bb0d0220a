"""Each fault of the chaos queue, and that nothing is lost by any of them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from taskflow.adapters.queue.chaos import REASON, ChaosQueue, ChaosRates
from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.ports.queue import ANYTHING, Delivery, Message, Selector
from taskflow.testing import FakeClock

QUIET: dict[str, float] = dict.fromkeys(
    ("fail_send", "lose_answer", "delay", "duplicate", "reorder", "drop_ack"), 0.0
)


class Chaos:
    def __init__(self, seed: int = 1, **rates: Any) -> None:
        self.clock = FakeClock()
        self.inner = LocalTaskQueue(self.clock, visibility_timeout_seconds=30)
        self.queue = ChaosQueue(self.inner, seed=seed, rates=ChaosRates(**(QUIET | rates)))

    def send(self, *task_ids: str) -> list[str]:
        """Which of them are said to have failed."""
        messages = [Message(task_id, "default", "echo", 2) for task_id in task_ids]
        failures = self.queue.enqueue(messages)
        assert {failure.reason for failure in failures} <= {REASON}
        return [failure.message.task_id for failure in failures]

    def take(self, most: int = 100, selector: Selector = ANYTHING) -> list[Delivery]:
        return self.queue.dequeue(max_messages=most, timeout_seconds=0, selector=selector)

    def ids(self, most: int = 100) -> list[str]:
        return [delivery.task_id for delivery in self.take(most)]


MANY = [f"t{n:03}" for n in range(100)]


def test_without_faults_it_is_the_queue_inside() -> None:
    chaos = Chaos()
    assert chaos.send(*MANY) == []
    assert chaos.ids() == MANY
    assert (chaos.queue.durable, chaos.queue.max_delay_seconds) == (False, 900)


def test_a_failed_send_is_reported_and_not_sent() -> None:
    chaos = Chaos(fail_send=0.5)
    failed = chaos.send(*MANY)
    assert 20 < len(failed) < 80
    assert sorted(chaos.ids() + failed) == MANY


def test_a_send_whose_answer_is_lost_is_reported_and_sent() -> None:
    chaos = Chaos(lose_answer=0.5)
    failed = chaos.send(*MANY)
    assert 20 < len(failed) < 80
    assert chaos.ids() == MANY


def test_what_is_delayed_comes_later() -> None:
    chaos = Chaos(delay=0.5, longest_delay_seconds=10)
    chaos.send(*MANY)
    at_once = chaos.ids()
    assert 5 < len(at_once) < 60  # delayed on sending, or on receiving
    seen = set(at_once)
    for _ in range(100):
        chaos.clock.advance(1)
        seen.update(chaos.ids())
    assert seen == set(MANY)


def test_a_duplicate_has_a_receipt_that_does_nothing() -> None:
    chaos = Chaos(duplicate=1.0)
    chaos.send("t1")
    [original] = chaos.take()
    copies: list[Delivery] = []
    while not copies:
        copies = chaos.take()
    [copy] = copies
    assert (copy.task_id, copy.tenant_id, copy.task, copy.priority) == ("t1", "default", "echo", 2)
    assert copy.receipt != original.receipt
    chaos.queue.ack([copy.receipt])
    chaos.queue.nack([copy.receipt])
    chaos.queue.extend([copy.receipt], 600)
    chaos.queue.dead_letter([copy.receipt], "copy")
    assert chaos.take() == []
    chaos.clock.advance(31)  # of the original nothing was said
    assert chaos.ids() == ["t1"]


def test_a_duplicate_may_come_after_the_message_was_acked_but_not_to_whom_it_is_not_for() -> None:
    chaos = Chaos(duplicate=1.0)
    chaos.send("t1")
    [original] = chaos.take()
    chaos.queue.ack([original.receipt])
    for selector in (Selector(priorities=frozenset({0})), Selector(excluded=frozenset({"echo"}))):
        for _ in range(20):
            assert chaos.take(selector=selector) == []
    found: list[Delivery] = []
    while not found:
        found = chaos.take()
    assert found[0].task_id == "t1"


def test_no_more_than_asked_for_come_at_once() -> None:
    chaos = Chaos(duplicate=1.0, reorder=1.0)
    chaos.send(*MANY)
    for _ in range(200):
        assert len(chaos.take(3)) <= 3


def test_messages_come_in_another_order() -> None:
    chaos = Chaos(reorder=1.0)
    chaos.send(*MANY)
    order = chaos.ids()
    assert order != MANY
    assert sorted(order) == MANY


def test_a_dropped_ack_brings_the_message_back() -> None:
    chaos = Chaos(drop_ack=1.0)
    chaos.send("t1")
    chaos.queue.ack([delivery.receipt for delivery in chaos.take()])
    assert chaos.take() == []
    chaos.clock.advance(31)
    assert chaos.ids() == ["t1"]


def test_the_same_seed_brings_the_same_faults() -> None:
    def story(seed: int) -> list[Any]:
        chaos = Chaos(
            seed,
            fail_send=0.2,
            lose_answer=0.2,
            delay=0.2,
            duplicate=0.2,
            reorder=0.5,
            drop_ack=0.2,
        )
        told: list[Any] = [chaos.send(*MANY)]
        for _ in range(50):
            deliveries = chaos.take(10)
            chaos.queue.ack([delivery.receipt for delivery in deliveries])
            told.append([delivery.task_id for delivery in deliveries])
            chaos.clock.advance(5)
        return told

    assert story(7) == story(7)
    assert story(7) != story(8)


def test_how_often_somebody_looks_changes_no_fault() -> None:
    """A run that is repeated on a busy machine meets what it met before: how often there is nothing, and how many come
    at once, depends on the moment."""

    def deliveries(*, in_vain: int, at_once: int) -> Counter[str]:
        chaos = Chaos(7, delay=0.2, duplicate=0.3, reorder=0.5)
        for _ in range(in_vain):
            assert chaos.take() == []
        chaos.send(*MANY)
        return Counter(task_id for _ in range(500) for task_id in chaos.ids(at_once))

    told = deliveries(in_vain=0, at_once=100)
    assert set(told.values()) == {1, 2}
    assert len(told) < len(MANY)  # the others are put off
    assert deliveries(in_vain=9, at_once=100) == told
    assert deliveries(in_vain=0, at_once=1) == told


@pytest.mark.parametrize("seed", range(1, 11))
def test_whatever_is_accepted_comes_and_whatever_is_not_is_returned(seed: int) -> None:
    """A sender that repeats what failed, and a worker that acks what it has seen: as TaskFlow does."""
    chaos = Chaos(
        seed, fail_send=0.3, lose_answer=0.2, delay=0.3, duplicate=0.3, reorder=0.5, drop_ack=0.3
    )
    todo, seen = list(MANY), Counter[str]()
    for _ in range(500):
        todo = chaos.send(*todo)
        deliveries = chaos.take(10)
        seen.update(delivery.task_id for delivery in deliveries)
        chaos.queue.ack([delivery.receipt for delivery in deliveries])
        chaos.clock.advance(1)
        depths = chaos.queue.depths().values()
        if not todo and not any(sum(depth) for depth in depths):
            break
    assert todo == []
    assert set(seen) == set(MANY)
    assert max(seen.values()) > 1


def test_a_closed_queue_hands_out_no_copies() -> None:
    chaos = Chaos(duplicate=1.0)
    chaos.send("t1")
    chaos.take()
    chaos.queue.close()
    for _ in range(20):
        assert chaos.take() == []
