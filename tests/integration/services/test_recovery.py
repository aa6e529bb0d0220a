"""What happens to the tasks of workers that are gone, or only look so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskflow.adapters.liveness.files import FileLiveness
from taskflow.core.task import DEFAULT_TENANT
from taskflow.ports.metadata import WorkerRecord
from tests.integration.services.conftest import Engine, Engines, noop
from tests.support.database_time import about_file_locks


def report(engine: Engine) -> None:
    """As the worker does when it starts."""
    engine.runtime.stores.workers.report(
        WorkerRecord(engine.runtime.worker_id, "host", os.getpid(), 0, 0, "running", {"total": 4})
    )


def die(engine: Engine) -> None:
    """What the kernel does for a process that is killed: its locks go, its memory too."""
    engine.runtime.liveness.release(engine.runtime.worker_id)


def counted(engine: Engine) -> dict[str, int]:
    """Totals of its process, but for those that are zero and those of submissions and starts."""
    totals = engine.runtime.counters.snapshot()["totals"]
    beside = ("enqueued", "dequeued")
    return {name: count for name, count in totals.items() if count and name not in beside}


def samples(engine: Engine, name: str) -> dict[str, int]:
    """By outcome."""
    text = engine.runtime.insights.prometheus().decode()
    found = (
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )
    return {f"outcome={sample.labels['outcome']}": int(sample.value) for sample in found}


def finished(engine: Engine) -> dict[str, int]:
    return samples(engine, "taskflow_attempts_finished_total")


@about_file_locks
def test_a_dead_workers_tasks_are_taken_over_at_once(engines: Engines) -> None:
    dead, alive = engines(), engines()
    report(dead)
    report(alive)
    task = dead.handler(noop)
    running, waiting = dead.submit(task, priority="critical"), dead.submit(task)
    kept = alive.submit(task)
    dead.start(1)
    [keeper] = alive.start()
    die(dead)
    assert alive.runtime.recovery.run_once() == 1
    stored = alive.get(running)
    assert (stored.status, stored.crash_count, stored.failure_count) == ("pending", 1, 0)
    assert alive.history(running)[-1] == "recovered"
    assert alive.status(kept) == "running"
    assert {a.task.task_id for a in alive.start()} == {running, waiting}
    alive.succeed(keeper)
    assert [w.worker_id for w in alive.runtime.insights.workers()] == [alive.runtime.worker_id]
    lock_files = [path.stem for path in (alive.home / "workers").iterdir()]
    assert lock_files == [alive.runtime.worker_id]
    assert alive.runtime.recovery.run_once() == 0


@about_file_locks
def test_more_than_one_batch_of_a_dead_worker_is_taken_over_in_one_run(engines: Engines) -> None:
    dead, alive = engines(), engines()
    report(dead)
    task = dead.handler(noop)
    dead.runtime.submissions.submit(DEFAULT_TENANT, [dead.ask(task) for _ in range(1_100)])
    assert len(dead.start(1_100)) == 1_100
    die(dead)
    assert alive.runtime.recovery.run_once() == 1_100


def test_an_expired_lease_is_believed_only_when_it_has_stayed_expired(engines: Engines) -> None:
    silent, other = engines(lease_seconds=30), engines(lease_seconds=30)
    task_id = silent.submit(silent.handler(noop))
    silent.start_one()
    other.clock.advance(30.1)
    assert other.runtime.recovery.run_once() == 0
    other.clock.advance(9.8)
    assert other.runtime.recovery.run_once() == 0
    other.clock.advance(0.3)
    assert other.runtime.recovery.run_once() == 1
    assert other.status(task_id) == "pending"


def test_a_clock_that_jumps_forward_steals_nothing_from_a_living_worker(engines: Engines) -> None:
    worker, other = engines(), engines()
    task_id = worker.submit(worker.handler(noop))
    attempt = worker.start_one()
    worker.clock.jump(86_400)
    for _ in range(20):
        assert other.runtime.recovery.run_once() == 0
        worker.clock.advance(1)
        assert worker.runtime.execution.heartbeat([attempt], {}).lost == []
        worker.runtime.execution.keep_hidden([attempt])
    worker.succeed(attempt)
    assert worker.get(task_id).attempt == 1


@about_file_locks
@pytest.mark.parametrize(
    "declared", [{}, {"retry_for": (Exception,)}, {"never_retry_for": (Exception,)}]
)
def test_a_task_that_keeps_killing_its_workers_becomes_a_dead_letter(
    engines: Engines, declared: dict[str, Any]
) -> None:
    survivor = engines(max_crashes=3)
    task_id = survivor.submit(survivor.handler(noop, **declared))
    for crash in range(1, 4):
        victim = engines(max_crashes=3)
        report(victim)
        victim.runtime.relay.rebuild()
        assert len(victim.start()) == 1
        die(victim)
        assert survivor.runtime.recovery.run_once() == 1
        assert survivor.get(task_id).crash_count == crash
    stored = survivor.get(task_id)
    assert (stored.status, stored.failure_count) == ("failed", 0)
    assert stored.error is not None
    assert (stored.error.type, stored.error.classification) == ("WorkerCrashedError", "crashed")
    assert counted(survivor) == {"failed": 1, "recovered": 3}
    assert survivor.runtime.counters.snapshot()["errors_by_class"] == {"crashed": 3}
    assert finished(survivor) == {"outcome=pending": 2, "outcome=failed": 1}
    [letter], _ = survivor.runtime.dead_letters.list(DEFAULT_TENANT, limit=10, cursor=None)
    assert letter.task_id == task_id


@about_file_locks
def test_a_task_cancelled_while_its_worker_died_is_cancelled(engines: Engines) -> None:
    dead, alive = engines(), engines()
    report(dead)
    task_id = dead.submit(dead.handler(noop))
    child = dead.submit("noop", depends_on=[task_id])
    dead.start_one()
    alive.runtime.tasks.cancel(DEFAULT_TENANT, task_id)
    die(dead)
    alive.runtime.recovery.run_once()
    assert (alive.status(task_id), alive.status(child)) == ("cancelled", "failed")
    assert counted(alive) == {"cancelled": 1, "failed": 1, "recovered": 1}
    assert finished(alive) == {"outcome=cancelled": 1}


@about_file_locks
def test_a_crash_after_which_no_attempt_could_start_in_time_fails_the_task(
    engines: Engines,
) -> None:
    dead, alive = engines(), engines()
    report(dead)
    task_id = dead.submit(dead.handler(noop), expires_in=5)
    dead.start_one()
    die(dead)
    alive.clock.advance(6)
    alive.runtime.recovery.run_once()
    assert alive.status(task_id) == "failed"


def test_what_was_not_started_by_its_deadline_expires_with_all_that_depends_on_it(
    engine: Engine,
) -> None:
    task = engine.handler(noop)
    late, child = engine.submit(task, expires_in=10), None
    child = engine.submit(task, depends_on=[late])
    kept = engine.submit(task, expires_in=11)
    engine.clock.advance(10)
    assert [attempt.task.task_id for attempt in engine.start()] == [kept]
    engine.runtime.recovery.run_once()
    assert (engine.status(late), engine.status(child)) == ("expired", "failed")
    assert {"expired": 1, "failed": 1}.items() <= counted(engine).items()
    engine.runtime.recovery.run_once()
    assert {"expired": 1, "failed": 1}.items() <= counted(engine).items()
    assert samples(engine, "taskflow_waiting_tasks_ended_total") == {
        "outcome=expired": 1,
        "outcome=failed": 1,
    }
    assert engine.runtime.tasks.wait(DEFAULT_TENANT, late, 0).finished_at is not None


@about_file_locks
def test_a_worker_nobody_has_heard_of_for_an_hour_is_forgotten(engines: Engines) -> None:
    gone, alive = engines(), engines()
    report(gone)
    gone.runtime.liveness.release(gone.runtime.worker_id)
    (gone.home / "workers" / f"{gone.runtime.worker_id}.lock").unlink()  # another machine's
    alive.clock.advance(3_000)
    report(alive)
    alive.runtime.recovery.run_once()
    assert len(alive.runtime.insights.workers()) == 2
    alive.clock.advance(700)
    alive.runtime.recovery.run_once()
    assert len(alive.runtime.insights.workers()) == 2, "the clock may have jumped: one more minute"
    alive.clock.advance(60)
    alive.runtime.recovery.run_once()
    assert [w.worker_id for w in alive.runtime.insights.workers()] == [alive.runtime.worker_id]


# --- liveness, with real processes ----------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from taskflow.adapters.liveness.files import FileLiveness
liveness = FileLiveness(Path(sys.argv[1]))
liveness.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
liveness.release(sys.argv[2])
print("released", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "w1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_process_lives_until_it_is_killed(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    liveness = FileLiveness(tmp_path)
    assert liveness.dead(["w1"]) == []
    os.kill(holder.pid, signal.SIGSTOP)
    assert liveness.dead(["w1"]) == []  # it may go on
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    assert liveness.dead(["w1", "unknown"]) == ["w1"]
    assert FileLiveness(tmp_path).dead(["w1"]) == ["w1"]
    liveness.forget(["w1", "unknown"])
    assert liveness.dead(["w1"]) == []


def test_a_worker_that_stopped_is_as_good_as_dead(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    assert FileLiveness(tmp_path).dead(["w1"]) == ["w1"]


def test_two_runtimes_of_one_process_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    one, two = FileLiveness(tmp_path), FileLiveness(tmp_path)
    one.hold("a")
    two.hold("b")
    assert one.dead(["a", "b"]) == two.dead(["a", "b"]) == []
    one.release("a")
    assert two.dead(["a", "b"]) == ["a"]
    two.release("b")


def test_a_killed_process_leaves_its_lock_even_while_its_child_lives(tmp_path: Path) -> None:
    """Started by exec, as workers' children are: they do not inherit the lock."""
    program = HOLDER.replace(
        'print("held", flush=True)',
        'import subprocess; child = subprocess.Popen(["sleep", "60"])\nprint(child.pid, flush=True)',
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), "w1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait(10)
        deadline = time.monotonic() + 10
        while FileLiveness(tmp_path).dead(["w1"]) != ["w1"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert FileLiveness(tmp_path).dead(["w1"]) == ["w1"]
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_what_ends_while_it_waits_is_counted_by_the_process_that_ended_it(
    engines: Engines,
) -> None:
    one, other = engines(), engines()
    task = one.handler(noop)
    cancelled = one.submit(task)
    for _ in range(2):
        one.submit(task, depends_on=[cancelled])
    failing = one.submit(task)
    one.submit(task, depends_on=[failing])
    other.runtime.tasks.cancel(DEFAULT_TENANT, cancelled)
    assert counted(other) == {"cancelled": 1, "failed": 2}
    one.fail(one.start_one(), ValueError("no"))
    assert counted(one) == {"failed": 2}
    one.submit(task, depends_on=[cancelled])
    assert counted(one) == {"failed": 3}
    assert finished(one) == {"outcome=failed": 1}
