"""Workers that are killed, hang, or are killed by what they run."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing

from taskflow import TaskStatus
from tests.acceptance.crash.processes import Process
from tests.acceptance.faults.conftest import PATIENCE_SECONDS, Place

MAX_CRASHES = 3
_FOR_EVER = 3_600.0  # a lease that cannot be the reason why a task was taken over


def test_a_task_of_a_killed_process_is_taken_over_at_once_when_it_starts_again(
    place: Place,
) -> None:
    with place.submitting() as app:
        handle = app.submit("fault.hang_once")
        with place.working(lease_seconds=_FOR_EVER) as process:
            process.expect(f"started {handle.id} 1")
            process.kill()
        with place.working(lease_seconds=_FOR_EVER) as process:
            process.expect(f"started {handle.id} 2")
            assert handle.result(PATIENCE_SECONDS) == 2
        task = handle.task()
        assert (task.crash_count, task.failure_count) == (1, 0)
    place.is_sound()


def test_a_task_of_a_killed_process_is_taken_over_by_another_that_runs(place: Place) -> None:
    with (
        place.submitting() as app,
        place.working(lease_seconds=3, num_workers=1) as first,
    ):
        handle = app.submit("fault.hang_once")
        first.expect(f"started {handle.id} 1")
        with place.working(lease_seconds=3) as second:
            first.kill()
            second.expect(f"started {handle.id} 2")
            assert handle.result(PATIENCE_SECONDS) == 2


def test_without_knowing_that_a_process_is_dead_its_lease_has_to_run_out(place: Place) -> None:
    """As on a shared PostgreSQL: the file whose lock tells of the death is gone."""
    with (
        place.submitting() as app,
        place.working(lease_seconds=1, num_workers=1) as first,
    ):
        handle = app.submit("fault.hang_once")
        first.expect(f"started {handle.id} 1")
        for lock in place.home.glob("workers/*"):
            lock.unlink()
        with place.working(lease_seconds=1) as second:
            first.kill()
            second.expect(f"started {handle.id} 2")
            assert handle.result(PATIENCE_SECONDS) == 2


def test_a_process_that_was_suspended_cannot_write_under_its_lost_lease(place: Place) -> None:
    with (
        place.submitting() as app,
        place.working(lease_seconds=1, num_workers=1) as first,
    ):
        handle = app.submit("fault.until_told")
        first.expect(f"started {handle.id} 1")
        suspend(first, place)
        with place.working(lease_seconds=1) as second:
            second.expect(f"started {handle.id} 2")
            first.tell("from the zombie")
            first.signal(signal.SIGCONT)
            # It is alive again and does other work, but what it lost stays lost.
            other = app.submit("fault.innocent", 1)
            assert other.result(PATIENCE_SECONDS) == 1
            second.tell("from the owner")
            assert handle.result(PATIENCE_SECONDS) == "from the owner"
        events = [event.type for event in app.history(handle.id)]
        assert events.count("task.completed") == 1


def suspend(process: Process, place: Place) -> None:
    """At a moment when it does not hold SQLite's write lock: then everybody would have to wait for it."""
    database = place.home / "taskflow.db"
    with closing(sqlite3.connect(database, timeout=0.1, isolation_level=None)) as connection:
        while True:
            process.suspend()
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError:  # it is locked
                process.signal(signal.SIGCONT)
            else:
                return


def test_a_task_that_kills_its_process_is_dead_lettered_and_its_neighbours_complete(
    place: Place,
) -> None:
    """However often they ran beside it."""
    with place.submitting() as app:
        neighbours = [app.submit("fault.shared", 0.02) for _ in range(12)]
        poison = app.submit("fault.poison")
        neighbours += [app.submit("fault.shared", 0.02) for _ in range(12)]
        for _ in range(MAX_CRASHES):
            with place.working(max_crashes=MAX_CRASHES) as process:
                assert process.wait() == -signal.SIGKILL
        with place.working(max_crashes=MAX_CRASHES):
            ends = [neighbour.wait(PATIENCE_SECONDS) for neighbour in neighbours]
            poison.wait(PATIENCE_SECONDS)
        assert {end.status for end in ends} == {TaskStatus.COMPLETED}, [
            (end.status, end.crash_count) for end in ends
        ]
        task = app.get(poison.id)
        assert (task.status, task.crash_count, task.failure_count) == (
            TaskStatus.FAILED,
            MAX_CRASHES,
            0,
        )
        assert task.error is not None
        assert task.error.classification == "crashed"
        assert [letter.task_id for letter in app.dead_letters.list().items] == [poison.id]
    assert max(place.effects().values()) == 1
    place.is_sound()
