"""Several processes on one home: they share the work, and nobody's end stops the others."""

from __future__ import annotations

from tests.acceptance.faults.conftest import PATIENCE_SECONDS, Place


def test_two_processes_share_the_work_and_nothing_runs_twice(place: Place) -> None:
    with (
        place.submitting() as app,
        place.working(num_workers=1) as first,
        place.working(num_workers=1) as second,
    ):
        # Each can hold one of these only, so both have to take part.
        held = [app.submit("fault.until_told") for _ in range(2)]
        started = {first.hear(), second.hear()}
        assert started == {f"started {handle.id} 1" for handle in held}
        first.tell("first")
        second.tell("second")
        assert {handle.result(PATIENCE_SECONDS) for handle in held} == {"first", "second"}

        handles = [app.submit("fault.shared", 0.001) for _ in range(300)]
        ran_in = {handle.result(PATIENCE_SECONDS) for handle in handles}
        assert ran_in <= {first.pid, second.pid}
    assert sorted(place.effects().values()) == [1] * 300
    place.is_sound()


def test_an_idle_process_helps_the_one_that_accepted_the_tasks(place: Place) -> None:
    """Their messages are in the memory of the process that accepted them, and nowhere else."""
    with place.submitting(num_workers=1) as app:
        app.stop_workers()  # so that it can do none of them itself
        handles = [app.submit("fault.shared", 0.001) for _ in range(20)]
        with place.working() as other:
            assert {handle.result(PATIENCE_SECONDS) for handle in handles} == {other.pid}


def test_one_process_goes_on_alone_when_the_other_is_killed(place: Place) -> None:
    with place.submitting() as app, place.working(lease_seconds=3) as first:
        handles = [app.submit("fault.shared", 0.005) for _ in range(200)]
        with place.working(lease_seconds=3):
            handles[0].result(PATIENCE_SECONDS)
            first.kill()
            tasks = [handle.wait(PATIENCE_SECONDS) for handle in handles]
    assert {task.status for task in tasks} == {"completed"}
    assert max(place.effects().values()) == 1, "one attempt ran in both"
    assert max(task.attempt for task in tasks) <= 2
    place.is_sound()


def test_a_process_that_ends_in_good_order_leaves_its_tasks_to_the_other(place: Place) -> None:
    with place.submitting() as app, place.working() as first:
        handles = [app.submit("fault.shared", 0.005) for _ in range(100)]
        with place.working():
            handles[0].result(PATIENCE_SECONDS)
            first.stop()
            assert first.wait() == 0, first.log_tail()
            tasks = [handle.wait(PATIENCE_SECONDS) for handle in handles]
    assert {(task.status, task.crash_count) for task in tasks} == {("completed", 0)}


def test_what_a_process_without_workers_accepts_reaches_one_with_workers(place: Place) -> None:
    with place.working() as other, place.submitting() as app:
        for _ in range(2):
            assert app.submit("fault.shared", 0.0).result(PATIENCE_SECONDS) == other.pid
