"""The order in which claimed attempts start: tenants in turn, higher priorities first, nobody overtaken for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from taskflow.core.task import TaskPriority
from taskflow.worker.handover import Handover
from taskflow.worker.run import Run

APART = 0.001


def runs(
    count: int, *, at: float, tenant_id: str = "a", priority: int = TaskPriority.NORMAL
) -> list[Run]:
    attempt: Any = SimpleNamespace(task=SimpleNamespace(tenant_id=tenant_id, priority=priority))
    return [Run(attempt, at, None) for _ in range(count)]


def taken(handover: Handover, count: int) -> list[Run | None]:
    return [handover.take() for _ in range(count)]


def test_one_tenants_attempts_start_in_the_order_in_which_they_were_claimed() -> None:
    handover = Handover()
    first, second = runs(3, at=0.0), runs(3, at=0.5 * APART)
    handover.put(first, APART)
    handover.put(second, APART)
    assert taken(handover, 6) == first + second


def test_another_tenant_does_not_wait_for_what_was_claimed_ahead_before() -> None:
    handover = Handover()
    flood = runs(100, at=0.0)
    [quiet] = runs(1, at=10 * APART, tenant_id="b")
    handover.put(flood, APART)
    assert taken(handover, 10) == flood[:10]
    handover.put([quiet], APART)
    assert quiet in taken(handover, 2)


def test_a_guess_of_the_pace_that_changes_a_little_changes_nobodys_turn() -> None:
    handover = Handover()
    flood = runs(100, at=0.0)
    handover.put(flood[:50], 1.05 * APART)
    handover.put(flood[50:], APART)
    assert taken(handover, 10) == flood[:10]
    [quiet] = runs(1, at=10 * APART, tenant_id="b")
    handover.put([quiet], 0.95 * APART)
    assert quiet in taken(handover, 2)


def test_a_higher_priority_overtakes_what_waits() -> None:
    handover = Handover()
    low = runs(20, at=0.0, priority=TaskPriority.LOW)
    high = runs(2, at=0.01, priority=TaskPriority.HIGH)
    handover.put(low, APART)
    handover.put(high, APART)
    assert taken(handover, 22) == high + low


def test_the_lowest_priority_is_overtaken_for_a_moment_only() -> None:
    handover = Handover()
    [low] = runs(1, at=0.0, priority=TaskPriority.LOW)
    handover.put([low], APART)
    overtakers = 0
    for claimed in range(1_000):
        handover.put(runs(1, at=claimed * APART, priority=TaskPriority.CRITICAL), APART)
        if handover.take() is low:
            break
        overtakers += 1
    assert 0 < overtakers < 200, "it would be given back, and come again"


def test_slots_end_after_what_is_here() -> None:
    handover = Handover()
    [run] = runs(1, at=0.0)
    handover.put([run], APART)
    handover.end(2)
    assert taken(handover, 3) == [run, None, None]


def test_tenants_are_forgotten_when_their_turns_have_come() -> None:
    handover = Handover()
    for number in range(1_000):
        handover.put(runs(1, at=0.0, tenant_id=f"t{number}"), APART)
        handover.put(runs(1, at=0.0, tenant_id="busy"), APART)
        taken(handover, 2)
    assert len(handover._next_turns) < 300
