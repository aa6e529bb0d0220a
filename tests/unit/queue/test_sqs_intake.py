"""Between receivers and workers of the SQS queue: order, demand, and what goes back. No SQS needed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import count

import pytest

from taskflow.adapters.queue.sqs.flights import Flight, Flights
from taskflow.adapters.queue.sqs.intake import MOST_BUFFERED, Intake
from taskflow.adapters.queue.sqs.pause import Pause
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import ANYTHING, Delivery, Selector
from tests.contract.queue.harness import Call, ids

VISIBILITY_SECONDS = 60.0
_receipts = count(1)


class Moments:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def moments() -> Moments:
    return Moments()


@pytest.fixture
def intake(moments: Moments) -> Intake:
    return Intake(
        TaskPriority,
        visibility_timeout_seconds=VISIBILITY_SECONDS,
        starvation_every=4,
        park_seconds=5.0,
        monotonic=moments,
        rng=random.Random(1),
    )


def delivery(
    task_id: str, *, priority: int = 2, tenant_id: str = "a", task: str = "echo", received: int = 1
) -> Delivery:
    return Delivery(task_id, tenant_id, task, priority, f"r{next(_receipts)}", received)


def at_once(intake: Intake, count: int = 10, selector: Selector = ANYTHING) -> list[Delivery]:
    return intake.dequeue(count, 0.0, selector)


def arrive(intake: Intake, deliveries: list[Delivery]) -> list[Delivery]:
    """From the queue of their priority."""
    return intake.arrived(deliveries, deliveries[0].priority)


def back(intake: Intake) -> list[tuple[str, float]]:
    """Receipt and moment of what a sweep tells SQS."""
    changes = intake.sweep(ahead_seconds=VISIBILITY_SECONDS / 6)
    return [(change.receipt, change.until) for told in changes.values() for change in told]


def test_the_highest_priority_comes_first_and_the_others_get_their_share(intake: Intake) -> None:
    for priority in (3, 0, 2, 1):
        arrive(intake, [delivery(f"p{priority}", priority=priority) for _ in range(12)])
    order = [found.priority for _ in range(48) for found in at_once(intake, 1)]
    assert order[:4] == [0, 0, 0, 1]  # every fourth goes to one that was passed over
    assert [order.index(priority) for priority in range(4)] == [0, 3, 7, 11]


def test_tenants_of_a_priority_take_turns(intake: Intake) -> None:
    arrive(intake, [delivery(f"a{n}", tenant_id="a") for n in range(3)])
    arrive(intake, [delivery("b0", tenant_id="b")])
    assert ids(at_once(intake)) == ["a0", "b0", "a1", "a2"]


def wanted(intake: Intake, priority: int) -> int:
    """Without waiting: there is demand, or there is none and the queue is closed."""
    asking = Call(lambda: intake.wanted(priority))
    asking._thread.join(0.1)
    return asking.result() if not asking.running else 0


def test_what_was_missing_just_now_is_received_and_no_more(
    intake: Intake, moments: Moments
) -> None:
    assert at_once(intake, 4) == []
    assert wanted(intake, 2) == 4
    arrive(intake, [delivery("t1"), delivery("t2"), delivery("t3")])
    assert wanted(intake, 2) == 1
    at_once(intake, 2)
    assert wanted(intake, 2) == 0  # it got what it asked for
    at_once(intake, 100)
    assert wanted(intake, 2) == 10  # SQS gives no more at a time
    moments.now += 2
    assert wanted(intake, 2) == 0  # it has not asked again


def test_only_so_much_is_held_for_callers_that_want_none_of_it(intake: Intake) -> None:
    selector = Selector(excluded=frozenset({"echo"}))
    for n in range(MOST_BUFFERED // 10):
        arrive(intake, [delivery(f"{n}-{i}") for i in range(10)])
    waiting = Call(lambda: intake.dequeue(100, 60.0, selector))
    assert wanted(intake, 2) == 0
    arrive(intake, [delivery("runs", task="report")])
    assert ids(waiting.result()) == ["runs"]


def test_what_nobody_asks_for_goes_back_after_a_second(intake: Intake, moments: Moments) -> None:
    late = delivery("late")
    at_once(intake, 4)
    arrive(intake, [late])
    moments.now += 0.9
    assert back(intake) == []
    moments.now += 0.2
    assert back(intake) == [(late.receipt, moments.now)]
    assert at_once(intake) == []
    assert intake.end([late.receipt]) == []


def test_while_others_are_taken_a_message_waits_longer_for_its_turn(
    intake: Intake, moments: Moments
) -> None:
    arrive(intake, [delivery("low", priority=3)])
    for second in range(9):
        arrive(intake, [delivery(f"c{second}", priority=0)])
        if ids(at_once(intake, 1)) == ["low"]:
            return
        moments.now += 0.9
        assert back(intake) == []
    raise AssertionError("it was passed over")


def test_nothing_waits_here_for_more_than_ten_seconds(intake: Intake, moments: Moments) -> None:
    low = delivery("low", priority=3)
    arrive(intake, [low])
    high = Selector(priorities=frozenset({0}))
    for _ in range(12):
        assert back(intake) == []
        moments.now += 0.9
        at_once(intake, 1, high)
    assert back(intake) == [(low.receipt, moments.now)]


def test_what_those_who_wait_exclude_goes_back_for_longer_each_time(
    intake: Intake, moments: Moments
) -> None:
    selector = Selector(excluded=frozenset({"echo"}))
    arrive(intake, [delivery(f"t{n}", received=n) for n in (1, 2, 3, 10)])
    waiting = Call(lambda: intake.dequeue(1, 60.0, selector))
    sweeps: list[tuple[str, float]] = []
    moments.now += 1.1
    while not sweeps and waiting.running:
        sweeps = back(intake)
        if any(until == moments.now for _, until in sweeps):
            pytest.fail("it goes back at once")
    intake.wake()
    assert waiting.result() == []
    delays = [until - moments.now for _, until in sweeps]
    assert [2.5 <= delays[0] <= 5, 5 <= delays[1] <= 10, 10 <= delays[2] <= 20] == [True] * 3
    assert 150 <= delays[3] <= 300


def test_what_ran_out_of_time_in_the_buffer_is_handed_out_to_nobody(
    intake: Intake, moments: Moments
) -> None:
    """As after the process was stopped for a while: the message is somebody else's."""
    arrive(intake, [delivery("t1")])
    moments.now += VISIBILITY_SECONDS
    assert at_once(intake) == []
    assert intake.close() == []


def test_after_the_end_what_arrives_is_returned(intake: Intake) -> None:
    held = delivery("held")
    arrive(intake, [held])
    assert [flight.delivery for flight in intake.close()] == [held]
    late = delivery("late")
    assert arrive(intake, [late]) == [late]
    assert intake.wanted(2) == 0


class TestFlights:
    def due(self, flights: Flights, now: float) -> Sequence[tuple[str, float]]:
        told = flights.due(now, ahead_seconds=10.0)
        return [(change.receipt, change.until) for changes in told.values() for change in changes]

    def test_a_beat_every_second_is_told_when_it_is_time(self) -> None:
        flights = Flights()
        flights.add(Flight(delivery("t1"), 2, 0.0, 60.0))
        [receipt] = flights._flights
        told = []
        for second in range(1, 121):
            flights.extend([receipt], float(second), second + 30.0)
            told += [(second, until) for _, until in self.due(flights, float(second))]
        assert told == [(50, 80.0), (70, 100.0), (90, 120.0), (110, 140.0)]

    def test_what_is_no_longer_extended_comes_back_when_it_was_last_asked_to(self) -> None:
        flights = Flights()
        flights.add(Flight(delivery("t1"), 2, 0.0, 60.0))
        [receipt] = flights._flights
        flights.extend([receipt], 1.0, 31.0)
        assert self.due(flights, 20.0) == []
        assert self.due(flights, 21.0) == [(receipt, 31.0)]
        assert flights.get(receipt, 30.9) is not None
        assert flights.get(receipt, 31.0) is None

    def test_those_that_are_due_soon_go_along(self) -> None:
        flights = Flights()
        for n in range(4):
            flights.add(Flight(delivery(f"t{n}"), n // 3, 0.0, 60.0 + n))
        flights.extend(list(flights._flights), 50.0, 80.0)
        assert len(self.due(flights, 50.0)) == 3  # that of the other queue is not pressing

    def test_twelve_hours_are_the_end(self) -> None:
        flights = Flights()
        flights.add(Flight(delivery("t1"), 2, 0.0, 43_190.0))
        [receipt] = flights._flights
        flights.extend([receipt], 43_180.0, 43_240.0)
        assert self.due(flights, 43_185.0) == [(receipt, 43_195.0)]

    def test_what_nobody_extended_is_forgotten(self) -> None:
        flights = Flights()
        flights.add(Flight(delivery("t1"), 2, 0.0, 60.0))
        assert self.due(flights, 60.0) == []
        assert len(flights) == 0


def test_pauses_grow_are_jittered_and_end_with_success(moments: Moments) -> None:
    pause = Pause(moments, random.Random(1))
    waits = [pause.failed() for _ in range(20)]
    for n, seconds in enumerate(waits):
        longest = min(10.0, 0.5 * 2**n)
        assert longest / 2 <= seconds <= longest
    assert pause.left_seconds() == pytest.approx(waits[-1])
    moments.now += 10.0
    assert pause.left_seconds() == 0.0
    assert pause.succeeded()
    assert not pause.succeeded()
    assert pause.failed() <= 0.5
