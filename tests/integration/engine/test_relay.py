"""How tasks find a worker when the message that should have told of them is elsewhere, or nowhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskflow.bootstrap import Runtime
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.ports.queue import ANYTHING, Message, Selector
from taskflow.testing.clock import FakeClock

Make = Callable[..., Runtime]
TENANT = "default"


def submit(runtime: Runtime, task: str = "job", count: int = 1, **options: float) -> list[str]:
    wanted = Submission(task, options=SubmitOptions.of(**options))
    return [answer.task_id for answer in runtime.submissions.submit(TENANT, [wanted] * count)]


def delivered(runtime: Runtime, count: int = 100, selector: Selector = ANYTHING) -> list[str]:
    found = runtime.queue.dequeue(max_messages=count, timeout_seconds=0, selector=selector)
    return [delivery.task_id for delivery in found]


def test_a_process_without_workers_hands_over_through_the_outbox(make: Make) -> None:
    submitting, working = make(num_workers=0), make()
    ids = submit(submitting, count=3)
    assert delivered(submitting) == []
    working.relay.run_once()
    assert sorted(delivered(working)) == sorted(ids)
    assert working.stores.outbox.next_due_seconds() is None


def test_an_idle_process_helps_one_that_keeps_its_tasks_in_its_own_memory(make: Make) -> None:
    busy, idle = make(), make()
    ids = submit(busy, count=3)
    idle.relay.run_once()
    assert sorted(delivered(idle)) == sorted(ids)


def test_tasks_that_no_worker_here_can_run_do_not_hide_those_of_others(make: Make) -> None:
    """A dedicated worker: what it may not take stays in its queue, and is found there by the process that may."""
    dedicated, other = make(), make()
    submit(dedicated, task="job", count=600)
    wanted = submit(other, task="echo", count=1, priority=3)
    other.queue.dequeue(max_messages=1, timeout_seconds=0)  # and its own message is lost
    dedicated.relay.run_once()
    assert delivered(dedicated, selector=Selector(tasks=frozenset({"echo"}))) == wanted


def test_a_lost_message_is_sent_again(make: Make, clock: FakeClock) -> None:
    runtime = make()
    [task_id] = submit(runtime, delay=5)
    clock.advance(6)
    [lost] = runtime.queue.dequeue(max_messages=1, timeout_seconds=0)
    runtime.queue.ack([lost.receipt])
    assert delivered(runtime) == []
    runtime.relay.run_once()
    assert delivered(runtime) == [task_id]


def test_what_is_not_due_is_left_alone(make: Make, clock: FakeClock) -> None:
    submitting, working = make(), make()
    submit(submitting, delay=5)
    working.relay.run_once()
    assert delivered(working) == []
    clock.advance(5)
    working.relay.run_once()
    assert len(delivered(working)) == 1


@pytest.mark.parametrize("delay", [800, 2_000])
def test_a_delayed_task_is_found_after_a_restart_whatever_the_clock_did(
    make: Make, clock: FakeClock, delay: float
) -> None:
    """Its outbox row may be gone already: it had been handed to the queue of the process that died."""
    before = make()
    [task_id] = submit(before, delay=delay)
    before.relay.run_once()
    clock.jump(-3_600)
    after = make()
    after.relay.rebuild()
    for _ in range(0, 3_600 + 2_000, 500):
        clock.advance(500)
        after.relay.run_once()
        started = after.execution.start(after.queue.dequeue(max_messages=10, timeout_seconds=0))
        if started:
            assert [attempt.task.task_id for attempt in started] == [task_id]
            return
    raise AssertionError("it waits for ever")


def test_messages_of_finished_tasks_start_nothing(make: Make) -> None:
    runtime = make()
    [task_id] = submit(runtime)
    [attempt] = runtime.execution.start(runtime.queue.dequeue(max_messages=1, timeout_seconds=0))
    runtime.execution.finish([(attempt, runtime.execution.succeeded(attempt, None, 1.0))])
    runtime.queue.enqueue([Message(task_id, TENANT, "job", 2)] * 3)
    assert runtime.execution.start(runtime.queue.dequeue(max_messages=9, timeout_seconds=0)) == []
    assert runtime.queue.dequeue(max_messages=9, timeout_seconds=0) == []


def test_rows_that_another_relay_holds_are_not_asked_for_again_and_again(make: Make) -> None:
    """It may have died with them: they are free again after 30 seconds."""
    submitting, working = make(num_workers=0), make()
    submit(submitting)
    submitting.stores.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10)
    assert working.relay.run_once() == 1.0
