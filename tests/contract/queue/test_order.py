"""Who comes first. What a best-effort queue may reorder is tested with the local one, in tests/unit/queue, and with
what the SQS queue has received, in tests/unit/queue/test_sqs_intake.py; here, that nothing gets lost on the way.
"""

from __future__ import annotations

from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Selector
from tests.contract.queue.harness import QueueHarness, has_exactly, ids, message, messages


def test_one_tenant_is_served_first_in_first_out(harness: QueueHarness) -> None:
    sent = [f"t{n:02}" for n in range(30)]
    harness.queue.enqueue(messages(*sent))
    assert has_exactly(harness, *sent)


def test_higher_priorities_come_first(harness: QueueHarness) -> None:
    for priority in (
        TaskPriority.LOW,
        TaskPriority.CRITICAL,
        TaskPriority.NORMAL,
        TaskPriority.HIGH,
    ):
        harness.queue.enqueue([message(priority.name, priority=priority)])
    assert has_exactly(harness, "CRITICAL", "HIGH", "NORMAL", "LOW")


def test_tenants_of_one_priority_are_served_in_turn(harness: QueueHarness) -> None:
    harness.queue.enqueue(messages("a1", "a2", "a3", "a4", tenant_id="a"))
    harness.queue.enqueue(messages("b1", "b2", tenant_id="b"))
    assert has_exactly(harness, "a1", "b1", "a2", "b2", "a3", "a4")


def test_nobody_waits_for_ever_behind_a_higher_priority(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("low", priority=TaskPriority.LOW)])
    for n in range(200):
        harness.queue.enqueue([message(f"c{n}", priority=TaskPriority.CRITICAL)])
        if "low" in ids(harness.take(most=1)):
            return
    raise AssertionError("200 others came first")


def test_a_selector_restricts_priorities(harness: QueueHarness) -> None:
    for priority in TaskPriority:
        harness.queue.enqueue([message(priority.name, priority=priority)])
    only = Selector(priorities=frozenset({0, 2}))
    assert has_exactly(harness, "CRITICAL", "NORMAL", selector=only)
    assert has_exactly(harness, "HIGH", "LOW")


def test_a_selector_restricts_tasks(harness: QueueHarness) -> None:
    for n in range(4):
        harness.queue.enqueue([message(f"e{n}", task="email"), message(f"r{n}", task="report")])
    reports = Selector(tasks=frozenset({"report"}))
    assert has_exactly(harness, "r0", "r1", "r2", "r3", selector=reports)
    assert has_exactly(harness, "e0", "e1", "e2", "e3")


def test_what_a_selector_excludes_stays_in_its_place(harness: QueueHarness) -> None:
    for n in range(3):
        harness.queue.enqueue([message(f"e{n}", task="email"), message(f"r{n}", task="report")])
    without_email = Selector(excluded=frozenset({"email"}))
    taken = ids(harness.take(2, most=2, selector=without_email))
    assert len(taken) == 2
    left = [f"r{n}" for n in range(3) if f"r{n}" not in taken]
    harness.queue.enqueue([message("e3", task="email"), message("r3", task="report")])
    assert has_exactly(harness, "e0", "e1", "e2", *left, "e3", "r3")


def test_a_message_that_only_others_accept_stays_for_them(harness: QueueHarness) -> None:
    harness.queue.enqueue([message("t1", task="email")])
    assert harness.nothing(Selector(excluded=frozenset({"email"})))
    assert harness.nothing(Selector(tasks=frozenset({"report"})))
    assert ids(harness.take(selector=Selector(tasks=frozenset({"email"})))) == ["t1"]
