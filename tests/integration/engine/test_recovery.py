"""What becomes of the tasks of workers that are gone, or only seem to be."""

from __future__ import annotations

from collections.abc import Callable

from taskflow.bootstrap import Runtime
from taskflow.core.submission import Submission
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import WorkerRecord
from taskflow.services.execution import Attempt
from taskflow.testing.clock import FakeClock
from tests.support.database_time import about_file_locks

Make = Callable[..., Runtime]
TENANT = "default"


def submit(runtime: Runtime, count: int = 1) -> list[str]:
    answers = runtime.submissions.submit(TENANT, [Submission("job")] * count)
    return [answer.task_id for answer in answers]


def start(runtime: Runtime, count: int = 1) -> list[Attempt]:
    deliveries = runtime.queue.dequeue(max_messages=count, timeout_seconds=0)
    return runtime.execution.start(deliveries)


def report(runtime: Runtime) -> None:
    """As its worker does when it starts."""
    record = WorkerRecord(runtime.worker_id, "here", 1, 0, 0, "running", {})
    runtime.stores.workers.report(record)


def die(runtime: Runtime) -> None:
    """Its process is gone: the kernel gives up its lock."""
    runtime.liveness.release(runtime.worker_id)


def statuses(runtime: Runtime, ids: list[str]) -> set[TaskStatus]:
    return {task.status for task in runtime.tasks.get_many(TENANT, ids)}


@about_file_locks
def test_everything_a_dead_worker_claimed_together_is_taken_over_at_once(make: Make) -> None:
    """They share one lease token; only the first of them used to be recovered before its lease had run out."""
    gone, other = make(), make()
    report(gone)
    ids = submit(gone, 4)
    assert len(start(gone, 4)) == 4
    die(gone)
    assert other.recovery.run_once() == 4
    assert statuses(other, ids) == {TaskStatus.PENDING}
    assert len(start(other, 10)) == 4


@about_file_locks
def test_what_a_dead_worker_had_only_in_its_queue_is_found(make: Make) -> None:
    gone, other = make(), make()
    report(gone)
    submit(gone, 3)
    die(gone)
    other.recovery.run_once()
    assert len(start(other, 10)) == 3


def test_a_clock_that_jumps_forward_takes_no_task_from_a_living_worker(
    make: Make, clock: FakeClock
) -> None:
    working, other = make(lease_seconds=30), make(lease_seconds=30)
    [task_id] = submit(working)
    [attempt] = start(working)
    clock.jump(3_600)
    assert other.recovery.run_once() == 0, "an expired lease alone is believed only after a while"
    clock.advance(1)
    working.execution.heartbeat([attempt], {})
    working.execution.keep_hidden([attempt])
    clock.advance(29)
    assert other.recovery.run_once() == 0
    clock.advance(9)
    assert other.recovery.run_once() == 0
    working.execution.finish([(attempt, working.execution.succeeded(attempt, None, 1.0))])
    assert statuses(working, [task_id]) == {TaskStatus.COMPLETED}


@about_file_locks
def test_a_clock_that_jumps_forward_makes_no_living_worker_unknown(
    make: Make, clock: FakeClock
) -> None:
    """Else nobody would notice when it really dies, before its leases have run out."""
    working, other = make(), make()
    report(working)
    submit(working, 2)
    start(working, 2)
    clock.jump(7_200)
    other.recovery.run_once()
    clock.advance(1)
    other.recovery.run_once()
    die(working)
    assert other.recovery.run_once() == 2


def test_a_clock_that_jumps_back_keeps_nothing_waiting(make: Make, clock: FakeClock) -> None:
    """A pending task is due, whatever the clock says afterwards; also when the process starts again."""
    runtime = make()
    [first, second] = submit(runtime, 2)
    clock.jump(-3_600)
    [attempt] = start(runtime)
    assert attempt.task.task_id == first
    again = make()
    again.relay.rebuild()
    [attempt] = start(again)
    assert attempt.task.task_id == second


def test_a_lease_that_runs_out_is_taken_over_by_another_process(
    make: Make, clock: FakeClock
) -> None:
    """The worker hangs: it holds its lock, so nothing but the lease says that it is gone."""
    hanging, other = make(lease_seconds=30), make(lease_seconds=30)
    report(hanging)
    [task_id] = submit(hanging)
    [zombie] = start(hanging)
    clock.advance(31)
    assert other.recovery.run_once() == 0
    clock.advance(10)
    assert other.recovery.run_once() == 1
    [attempt] = start(other)
    assert (attempt.task.attempt, attempt.task.crash_count) == (2, 1)

    hanging.execution.finish([(zombie, hanging.execution.succeeded(zombie, "late", 1.0))])
    assert statuses(other, [task_id]) == {TaskStatus.RUNNING}, "a lost lease writes nothing"
    assert [key.task_id for key in hanging.execution.heartbeat([zombie], {}).lost] == [task_id]
    other.execution.finish([(attempt, other.execution.succeeded(attempt, "right", 1.0))])
    assert other.tasks.get(TENANT, task_id).result == "right"


def test_a_zombie_does_not_take_the_outcome_of_its_successor_along(
    make: Make, clock: FakeClock
) -> None:
    """The same process lost a task, claimed it again, and both attempts end at the same time."""
    runtime, other = make(lease_seconds=30), make(lease_seconds=30)
    [task_id] = submit(runtime)
    [zombie] = start(runtime)
    clock.advance(31)
    other.recovery.run_once()
    clock.advance(10)
    assert other.recovery.run_once() == 1
    runtime.relay.run_once()
    [attempt] = start(runtime)
    execution = runtime.execution
    late, right = (
        execution.succeeded(zombie, "late", 1.0),
        execution.succeeded(attempt, "right", 1.0),
    )
    execution.finish([(zombie, late), (attempt, right)])
    task = runtime.tasks.get(TENANT, task_id)
    assert (task.status, task.result) == (TaskStatus.COMPLETED, "right")


@about_file_locks
def test_a_task_that_crashes_its_workers_is_dead_lettered(make: Make) -> None:
    survivor = make(max_crashes=3)
    [poison] = submit(survivor)
    for crashes in range(1, 4):
        victim = make(max_crashes=3)
        report(victim)
        victim.relay.rebuild()
        [attempt] = start(victim)
        assert attempt.task.attempt == crashes
        die(victim)
        assert survivor.recovery.run_once() == 1
    task = survivor.tasks.get(TENANT, poison)
    assert (task.status, task.crash_count, task.failure_count) == (TaskStatus.FAILED, 3, 0)
    assert task.error is not None
    assert task.error.classification == "crashed"


@about_file_locks
def test_tasks_that_ran_when_a_worker_died_are_claimed_one_at_a_time(
    make: Make, clock: FakeClock
) -> None:
    """Whichever of them kills its next worker is then known, and the others are not blamed with it."""
    gone, other = make(), make()
    report(gone)
    suspects = submit(gone, 3)
    start(gone, 3)
    die(gone)
    other.recovery.run_once()
    unsuspected = submit(other, 2)

    def claim(most_suspects: int) -> list[str]:
        deliveries = other.queue.dequeue(max_messages=10, timeout_seconds=0)
        started = other.execution.start(deliveries, most_suspects=most_suspects)
        return [attempt.task.task_id for attempt in started]

    assert claim(1) == [suspects[0], *unsuspected]
    assert claim(1) == [], "the others wait for a moment"
    clock.advance(1)
    assert claim(0) == []
    clock.advance(1)
    assert claim(1) == [suspects[1]]
    clock.advance(1)
    assert claim(1) == [suspects[2]]
    history = other.tasks.history(TENANT, suspects[2])
    assert [event.type.removeprefix("task.") for event in history] == [
        "submitted", "started", "recovered", "started",
    ]  # fmt: skip
