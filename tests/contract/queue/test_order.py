"""Who comes first. What a best-effort queue may reorder is tested with the local one, in tests/unit/queue."""

from __future__ import annotations

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Selector
from tests.contract.queue.harness import QueueHarness, drain, ids, message, messages, take


def test_one_tenant_is_served_first_in_first_out(harness: QueueHarness) -> None:
    sent = [f"t{n:02}" for n in range(30)]
    harness.queue.enqueue(messages(*sent))
    assert drain(harness.queue) == sent


def test_higher_priorities_come_first(harness: QueueHarness) -> None:
    for priority in (
        TaskPriority.LOW,
        TaskPriority.CRITICAL,
        TaskPriority.NORMAL,
        TaskPriority.HIGH,
    ):
        harness.queue.enqueue([message(priority.name, priority=priority)])
    assert drain(harness.queue) == ["CRITICAL", "HIGH", "NORMAL", "LOW"]


def test_tenants_of_one_priority_are_served_in_turn(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a1", "a2", "a3", "a4", tenant_id="a"))
    harness.queue.enqueue(messages("b1", "b2", tenant_id="b"))
    assert drain(harness.queue) == ["a1", "b1", "a2", "b2", "a3", "a4"]


def test_nobody_waits_for_ever_behind_a_higher_priority(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("low", priority=TaskPriority.LOW)])
    for n in range(200):
        harness.queue.enqueue([message(f"c{n}", priority=TaskPriority.CRITICAL)])
        if "low" in ids(take(harness.queue, 1)):
            return
    raise AssertionError("200 others came first")


def test_a_selector_restricts_priorities(harness: QueueHarness) -> None:
    for priority in TaskPriority:
        harness.queue.enqueue([message(priority.name, priority=priority)])
    assert drain(harness.queue, selector=Selector(priorities=frozenset({0, 2}))) == [
        "CRITICAL",
        "NORMAL",
    ]
    assert drain(harness.queue) == ["HIGH", "LOW"]


def test_a_selector_restricts_tasks(harness: QueueHarness) -> None:
    for n in range(4):
        harness.queue.enqueue([message(f"e{n}", task="email"), message(f"r{n}", task="report")])
    assert drain(harness.queue, selector=Selector(tasks=frozenset({"report"}))) == [
        "r0",
        "r1",
        "r2",
        "r3",
    ]
    assert drain(harness.queue) == ["e0", "e1", "e2", "e3"]


def test_what_a_selector_excludes_stays_in_its_place(harness: QueueHarness) -> None:
    for n in range(3):
        harness.queue.enqueue([message(f"e{n}", task="email"), message(f"r{n}", task="report")])
    without_email = Selector(excluded=frozenset({"email"}))
    assert ids(take(harness.queue, 2, selector=without_email)) == ["r0", "r1"]
    harness.queue.enqueue([message("e3", task="email"), message("r3", task="report")])
    assert drain(harness.queue) == ["e0", "e1", "e2", "r2", "e3", "r3"]


def test_a_message_that_only_others_accept_stays_for_them(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1", task="email")])
    assert take(harness.queue, selector=Selector(excluded=frozenset({"email"}))) == []
    assert take(harness.queue, selector=Selector(tasks=frozenset({"report"}))) == []
    assert ids(take(harness.queue, selector=Selector(tasks=frozenset({"email"})))) == ["t1"]
