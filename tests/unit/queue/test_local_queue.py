"""What the local queue promises beyond the contract of the port."""

from __future__ import annotations

import logging
import signal
import tracemalloc
from functools import partial
from itertools import count
from math import inf

import pytest

from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.queue.dead_letters import KEPT
from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.core.ids import UUID7
from taskflow.core.task import DEFAULT_TENANT, TaskPriority
from taskflow.ports.queue import ANYTHING, Message, Selector
from taskflow.testing.clock import FakeClock
from tests.contract.queue.harness import Call, drain, ids, message, messages, take
from tests.support.waiting import wait_for

VISIBILITY_SECONDS = 30.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> LocalTaskQueue:
    return LocalTaskQueue(clock, visibility_timeout_seconds=VISIBILITY_SECONDS)


class CountingClock(SystemClock):
    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic()


def real_queue(clock: SystemClock | None = None) -> LocalTaskQueue:
    return LocalTaskQueue(clock or SystemClock(), visibility_timeout_seconds=VISIBILITY_SECONDS)


class TestDuplicates:
    def test_a_task_that_waits_is_not_queued_again(self, queue: LocalTaskQueue) -> None:
        assert queue.enqueue(messages("a", "b", "a")) == []
        assert queue.enqueue(messages("a")) == []
        assert queue.waiting_count == 2
        assert drain(queue) == ["a", "b"]

    def test_a_task_that_waits_is_not_queued_with_a_delay_either(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("a"), message("a", delay_seconds=5)])
        assert drain(queue) == ["a"]
        clock.advance(6)
        assert take(queue) == []

    def test_a_delayed_message_gives_way_to_one_that_is_due_earlier(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("a", delay_seconds=60), message("b", delay_seconds=60)])
        queue.enqueue([message("a", delay_seconds=10), message("b")])
        assert queue.waiting_count == 2
        assert drain(queue) == ["b"]
        clock.advance(11)
        assert drain(queue) == ["a"]
        clock.advance(60)
        assert take(queue) == []
        assert queue.waiting_count == 0

    def test_a_delayed_message_does_not_give_way_to_a_later_one(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("a", delay_seconds=10), message("a", delay_seconds=60)])
        clock.advance(11)
        assert drain(queue) == ["a"]
        clock.advance(60)
        assert take(queue) == []

    def test_a_task_in_flight_may_wait_as_well_for_its_retry(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("a")])
        [first] = take(queue)
        queue.enqueue([message("a", delay_seconds=5)])
        queue.ack([first.receipt])
        clock.advance(6)
        assert [(d.task_id, d.receive_count) for d in take(queue)] == [("a", 1)]

    def test_a_message_that_comes_back_to_one_that_waits_is_one_message(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("a"), message("b")])
        first, _not_acked_in_time = take(queue)
        queue.enqueue([message("a"), message("b", delay_seconds=900)])
        queue.nack([first.receipt])
        clock.advance(VISIBILITY_SECONDS + 1)
        assert sorted(drain(queue)) == ["a", "b"]
        assert queue.waiting_count == 0

    def test_the_same_id_of_another_tenant_is_another_task(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("x", tenant_id="a"), message("x", tenant_id="b")])
        queue.enqueue([message("y", tenant_id="a", delay_seconds=5)])
        queue.enqueue([message("y", tenant_id="b", delay_seconds=1)])
        clock.advance(6)
        found = [(d.tenant_id, d.task_id) for d in take(queue)]
        assert sorted(found) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]


class TestKnown:
    def test_a_task_is_known_while_it_is_ready_delayed_or_in_flight(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue([message("ready"), message("delayed", delay_seconds=5)])
        assert queue.known(DEFAULT_TENANT, "ready")
        assert queue.known(DEFAULT_TENANT, "delayed")
        assert not queue.known(DEFAULT_TENANT, "other")
        assert not queue.known("another tenant", "ready")
        assert not queue.known("another tenant", "delayed")
        [delivery] = take(queue)
        assert queue.known(DEFAULT_TENANT, "ready")
        queue.ack([delivery.receipt])
        assert not queue.known(DEFAULT_TENANT, "ready")
        clock.advance(6)
        queue.dead_letter([take(queue)[0].receipt], "odd")
        assert not queue.known(DEFAULT_TENANT, "delayed")

    def test_a_late_ack_does_not_make_the_waiting_message_unknown(
        self, queue: LocalTaskQueue
    ) -> None:
        queue.enqueue([message("a")])
        [delivery] = take(queue)
        queue.enqueue([message("a", delay_seconds=5)])
        queue.ack([delivery.receipt])
        assert queue.known(DEFAULT_TENANT, "a")


class TestBoundedSize:
    @pytest.fixture
    def small(self, clock: FakeClock) -> LocalTaskQueue:
        return LocalTaskQueue(clock, visibility_timeout_seconds=VISIBILITY_SECONDS, max_size=3)

    def test_what_is_over_the_size_is_refused_and_nothing_accepted_is_dropped(
        self, small: LocalTaskQueue
    ) -> None:
        sent = [message("a", delay_seconds=0), *messages("b", "c", "d", "e")]
        assert [failure.message.task_id for failure in small.enqueue(sent)] == ["d", "e"]
        assert small.enqueue(messages("f"))[0].reason == "3 messages wait already"
        assert drain(small) == ["a", "b", "c"]

    def test_delayed_messages_count_and_those_in_flight_do_not(self, small: LocalTaskQueue) -> None:
        small.enqueue([message("a"), message("b", delay_seconds=5), message("c", delay_seconds=5)])
        assert len(small.enqueue(messages("d"))) == 1
        take(small)
        assert small.enqueue(messages("d")) == []
        assert small.waiting_count == 3

    def test_a_duplicate_needs_no_room_and_takes_none(self, small: LocalTaskQueue) -> None:
        small.enqueue([message("a", delay_seconds=50), message("b")])
        again = [message("a", delay_seconds=9), message("b"), message("a"), message("c")]
        assert small.enqueue(again) == []
        assert small.enqueue(messages("a", "b", "c")) == []
        assert small.waiting_count == 3

    def test_what_comes_back_from_a_worker_is_always_taken(self, small: LocalTaskQueue) -> None:
        small.enqueue(messages("a", "b", "c"))
        deliveries = take(small)
        small.enqueue(messages("d", "e", "f"))
        small.nack([delivery.receipt for delivery in deliveries])
        assert small.waiting_count == 6
        assert len(small.enqueue(messages("g"))) == 1


class TestReturning:
    def test_messages_that_were_let_go_come_back_first_and_in_order(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue(messages("a", "b", "c", "d"))
        assert ids(take(queue, 3)) == ["a", "b", "c"]
        clock.advance(VISIBILITY_SECONDS + 1)
        assert [(d.task_id, d.receive_count) for d in take(queue)] == [
            ("a", 2),
            ("b", 2),
            ("c", 2),
            ("d", 1),
        ]

    def test_closing_gives_back_what_is_hidden_and_accepts_nothing_more(
        self, queue: LocalTaskQueue
    ) -> None:
        queue.enqueue(messages("a", "b"))
        [delivery] = take(queue, 1)
        queue.close()
        assert queue.depths()[TaskPriority.NORMAL].ready == 2
        assert queue.enqueue(messages("c"))[0].reason == "the queue is closed"
        queue.nack([delivery.receipt])
        assert queue.waiting_count == 2

    def test_an_unknown_priority_is_refused_and_the_rest_accepted(
        self, queue: LocalTaskQueue
    ) -> None:
        odd = [message("x", priority=7), message("y", priority=-1, delay_seconds=1), message("a")]
        assert [f.reason for f in queue.enqueue(odd)] == [
            "there is no priority 7",
            "there is no priority -1",
        ]
        assert drain(queue) == ["a"]


class TestDeadLetters:
    def test_dead_letters_are_kept_counted_and_logged(
        self, queue: LocalTaskQueue, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue.enqueue([message("t1", task="gone")])
        [delivery] = take(queue)
        with caplog.at_level(logging.ERROR):
            queue.dead_letter([delivery.receipt, "unknown"], "no such tenant")
        assert [(d.delivery, d.reason) for d in queue.dead_letters.newest()] == [
            (delivery, "no such tenant")
        ]
        assert queue.dead_letters.total == 1
        assert "message.dead_lettered" in caplog.text
        assert "t1" in caplog.text

    def test_only_the_newest_dead_letters_are_kept(self, queue: LocalTaskQueue) -> None:
        for n in range(KEPT + 5):
            queue.enqueue([message(str(n))])
        queue.dead_letter([delivery.receipt for delivery in take(queue, KEPT + 5)], "odd")
        newest = queue.dead_letters.newest()
        assert (len(newest), newest[0].delivery.task_id) == (KEPT, "5")
        assert queue.dead_letters.total == KEPT + 5


class TestWaitingForReal:
    """On the machine's clock."""

    def test_an_idle_worker_does_not_look_at_the_clock(self) -> None:
        clock = CountingClock()
        queue = real_queue(clock)
        assert queue.dequeue(max_messages=1, timeout_seconds=0.2) == []
        assert clock.looks <= 4

    def test_time_that_runs_out_has_passed(self) -> None:
        clock = SystemClock()
        before = clock.monotonic()
        assert real_queue(clock).dequeue(max_messages=1, timeout_seconds=0.05) == []
        assert clock.monotonic() - before >= 0.05

    def test_a_clock_that_stands_still_does_not_hold_a_caller_beyond_its_time(
        self, queue: LocalTaskQueue
    ) -> None:
        queue.enqueue([message("later", delay_seconds=0.02)])
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=0.1))
        assert waiting.result() == []

    def test_waiting_without_limit_is_possible(self) -> None:
        queue = real_queue()
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=inf))
        assert waiting.result_while(queue.wake) == []

    def test_a_delayed_message_is_received_when_it_is_due(self) -> None:
        queue = real_queue()
        queue.enqueue([message("a", delay_seconds=0.05)])
        assert ids(queue.dequeue(max_messages=1, timeout_seconds=30)) == ["a"]

    def test_a_message_delayed_while_others_wait_wakes_one_of_them_in_time(self) -> None:
        queue = real_queue()
        waiting = [Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60)) for _ in "abc"]
        queue.enqueue([message(name, delay_seconds=0.05) for name in "abc"])
        assert sorted(i for call in waiting for i in ids(call.result())) == ["a", "b", "c"]

    def test_who_leaves_hands_the_alarm_over(self) -> None:
        """Consumers come and go in all orders; the last delayed message still wakes whoever is left."""
        for _ in range(20):
            queue = real_queue()
            wait = partial(queue.dequeue, max_messages=1, timeout_seconds=60)
            queue.enqueue([message("late", delay_seconds=0.03)])
            waiting = [Call(wait) for _ in "abc"]
            queue.enqueue(messages("a", "b"))
            assert sorted(i for call in waiting for i in ids(call.result())) == ["a", "b", "late"]

    def test_a_message_not_acked_in_time_wakes_who_waits(self) -> None:
        queue = LocalTaskQueue(SystemClock(), visibility_timeout_seconds=0.05)
        waiting = [Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=60)) for _ in "ab"]
        queue.enqueue(messages("a"))
        assert [ids(call.result()) for call in waiting] == [["a"], ["a"]]

    def test_a_message_brought_back_sooner_wakes_who_waits(self) -> None:
        queue = real_queue()
        queue.enqueue(messages("a"))
        [delivery] = take(queue)
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=20))
        assert ids(waiting.result_while(lambda: queue.extend([delivery.receipt], 0.005))) == ["a"]

    def test_a_signal_handler_may_wake_the_thread_it_interrupted(self) -> None:
        queue = real_queue()
        before = signal.signal(signal.SIGALRM, lambda *_: queue.wake())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert queue.dequeue(max_messages=1, timeout_seconds=60) == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def test_a_caller_that_is_interrupted_leaves_its_message_to_the_others(self) -> None:
        for _ in range(5):
            queue = real_queue()
            queue.enqueue([message("later", delay_seconds=600)])  # who comes first keeps its alarm

            def interrupt(*_: object, queue: LocalTaskQueue = queue) -> None:
                queue.enqueue(messages("a"))  # rouses the one that does not: this thread
                raise KeyboardInterrupt

            before = signal.signal(signal.SIGALRM, interrupt)
            try:
                other = Call(partial(queue.dequeue, max_messages=1, timeout_seconds=60))
                with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - wherever it strikes
                    signal.setitimer(signal.ITIMER_REAL, 0.02)
                    queue.dequeue(max_messages=1, timeout_seconds=60)
                assert ids(other.result(10)) == ["a"]
            finally:
                signal.signal(signal.SIGALRM, before)


class TestMemory:
    def test_a_waiting_message_takes_at_most_400_bytes(self, queue: LocalTaskQueue) -> None:
        milliseconds = count(1_760_000_000_000)
        new_id = UUID7(lambda: next(milliseconds))
        number = 5_000
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(number // 100):
                queue.enqueue([Message(new_id(), "default", "echo", 2) for _ in range(100)])
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / number <= 400

    def test_work_that_is_done_leaves_nothing_behind(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        """Neither acked deadlines, nor delays that gave way, nor tenants and tasks that are gone."""

        def work(rounds: int) -> None:
            for n in range(rounds):
                name = f"{n:08}"
                queue.enqueue([message(name, tenant_id=name, task=name, delay_seconds=800)])
                queue.enqueue([message(name, tenant_id=name, task=name)])
                take(queue, 1, selector=Selector(excluded=frozenset({name})))
                [delivery] = take(queue, 1)
                queue.extend([delivery.receipt], 600)
                queue.ack([delivery.receipt])

        tracemalloc.start()
        try:
            work(1_500)
            before, _ = tracemalloc.get_traced_memory()
            work(4_500)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 200_000
        assert queue.waiting_count == 0


class TestHandingThrough:
    def test_it_is_handed_out_like_any_other(self, queue: LocalTaskQueue) -> None:
        waiting = Call(lambda: queue.dequeue(max_messages=1, timeout_seconds=inf))
        wait_for(lambda: len(queue._sleepers) == 1, "somebody waits for a message")
        delivery = queue.hand_through(message("x"), ANYTHING)
        assert delivery is not None
        assert (delivery.task_id, delivery.receive_count) == ("x", 1)
        assert queue.known(DEFAULT_TENANT, "x")
        assert queue.depths()[TaskPriority.NORMAL].in_flight == 1
        assert waiting.running
        queue.nack([delivery.receipt])
        assert ids(waiting.result()) == ["x"]

    def test_one_that_is_not_acked_comes_back(
        self, queue: LocalTaskQueue, clock: FakeClock
    ) -> None:
        queue.enqueue(messages("a", "b"))
        [first] = take(queue, 1)
        through = queue.hand_through(message("x", tenant_id="b"), ANYTHING)
        assert through is not None
        queue.ack([first.receipt])
        clock.advance(VISIBILITY_SECONDS)
        assert "x" in drain(queue)

    def test_one_that_is_acked_is_forgotten(self, queue: LocalTaskQueue, clock: FakeClock) -> None:
        queue.enqueue(messages("a", "b"))
        take(queue, 1)
        through = queue.hand_through(message("x", tenant_id="b"), ANYTHING)
        assert through is not None
        queue.ack([through.receipt])
        assert not queue.known("b", "x")
        clock.advance(VISIBILITY_SECONDS)
        assert "x" not in drain(queue)

    def test_nothing_goes_before_what_somebody_is_about_to_start(
        self, queue: LocalTaskQueue
    ) -> None:
        """The queue is empty, but whoever emptied it has not come back: what it has taken goes first."""
        queue.enqueue(messages("a"))
        take(queue, 1)
        assert queue.hand_through(message("x"), ANYTHING) is None

    def test_a_closed_queue_hands_nothing_out(self, queue: LocalTaskQueue) -> None:
        queue.enqueue(messages("a"))
        queue.close()
        assert queue.hand_through(message("x", tenant_id="b"), ANYTHING) is None
