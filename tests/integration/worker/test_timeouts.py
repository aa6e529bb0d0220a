"""An attempt ends when its time is up, whatever the handler does."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

from taskflow.core.task import ErrorClass, Task, TaskStatus
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import Engine, Gate, wait_for


def assert_timed_out(task: Task) -> str:
    assert task.status is TaskStatus.FAILED
    assert task.error is not None
    assert (task.error.type, task.error.classification) == (
        "AttemptTimeoutError",
        ErrorClass.TIMED_OUT,
    )
    assert task.duration_ms is not None
    assert task.duration_ms >= 1_000 * task.timeout
    return task.error.message


def test_a_busy_thread_is_interrupted(engine: Engine) -> None:
    cleaned_up = threading.Event()

    @engine.handler
    def spin() -> None:
        try:
            while True:
                pass
        finally:
            cleaned_up.set()

    task = engine.run("spin", timeout=0.1)
    assert assert_timed_out(task) == "ran longer than its timeout of 0.1 s"
    assert cleaned_up.is_set()
    assert task.error is not None
    assert "in spin" in (task.error.traceback or "")
    assert engine.worker.snapshot()["abandoned"] == 0


def test_a_handler_that_swallows_every_exception_is_interrupted_all_the_same(
    engine: Engine,
) -> None:
    @engine.handler
    def stubborn() -> str:
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue

    assert_timed_out(engine.run("stubborn", timeout=0.1))


def test_what_a_handler_returns_after_its_time_is_not_its_result(engine: Engine) -> None:
    @engine.handler
    def late() -> str:
        try:
            while True:
                pass
        except BaseException:
            return "done anyway"

    task = engine.run("late", timeout=0.1)
    assert_timed_out(task)
    assert task.result is None


def test_a_thread_blocked_in_c_code_is_abandoned_and_replaced(make_engine: Any, gate: Gate) -> None:
    engine = make_engine(num_workers=1, abandon_grace_seconds=0.1)

    @engine.handler
    def block() -> None:
        gate.pass_through()

    engine.worker.start()
    task = engine.run("block", timeout=0.1)
    assert "abandoned" in assert_timed_out(task)
    assert task.error is not None
    assert "gate.pass_through()" in (task.error.traceback or "")  # where it hangs
    assert engine.works()
    snapshot = engine.worker.snapshot()
    assert (snapshot["total"], snapshot["abandoned"]) == (1, 1)
    assert engine.runtime.counters.snapshot()["totals"]["abandoned"] == 1


def test_an_abandoned_thread_ends_when_it_comes_back_and_its_result_is_dropped(
    make_engine: Any, gate: Gate
) -> None:
    engine = make_engine(num_workers=1, abandon_grace_seconds=0.1)
    thread: list[threading.Thread] = []

    @engine.handler
    def block() -> str:
        thread.append(threading.current_thread())
        gate.pass_through()
        return "too late"

    engine.worker.start()
    task_id = engine.submit("block", timeout=0.1)
    assert_timed_out(engine.final(task_id))
    gate.open()
    thread[0].join(10)
    assert not thread[0].is_alive()
    assert engine.works()
    assert engine.get(task_id).result is None


def test_a_coroutine_is_cancelled(engine: Engine) -> None:
    cleaned_up = threading.Event()

    @engine.handler
    async def sleep() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.set()

    assert_timed_out(engine.run("sleep", timeout=0.1))
    assert cleaned_up.is_set()


def test_a_coroutine_that_swallows_its_cancellation_is_abandoned(make_engine: Any) -> None:
    engine = make_engine(num_workers=1, abandon_grace_seconds=0.1)
    release: list[Any] = []

    @engine.handler
    async def stubborn() -> str:
        event = asyncio.Event()
        release.append((asyncio.get_running_loop(), event))
        while not event.is_set():
            try:
                await event.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    engine.worker.start()
    task_id = engine.submit("stubborn", timeout=0.1)
    assert "coroutine" in assert_timed_out(engine.final(task_id))
    assert engine.works()
    assert engine.worker.snapshot()["abandoned"] == 1
    loop, event = release[0]
    loop.call_soon_threadsafe(event.set)
    assert engine.works()
    assert engine.get(task_id).result is None


def test_a_blocked_event_loop_is_replaced(make_engine: Any, gate: Gate) -> None:
    engine = make_engine(abandon_grace_seconds=0.1)

    @engine.handler
    async def block() -> None:
        gate.pass_through()

    @engine.handler
    async def polite() -> str:
        await asyncio.sleep(0)
        return "polite"

    engine.worker.start()
    blocking = engine.submit("block", timeout=0.1)
    gate.wait_for()
    innocent = engine.submit("polite", timeout=1.0)  # never gets a turn on that loop
    assert "abandoned" in assert_timed_out(engine.final(blocking))
    task = engine.final(innocent)
    assert (task.status, task.result, task.failure_count) == (TaskStatus.COMPLETED, "polite", 0)


def test_a_process_is_killed_with_everything_it_started(make_engine: Any, tmp_path: Path) -> None:
    engine = make_engine()
    process_handlers.add_to(engine.registry)
    clock = engine.hold_time()
    engine.worker.start()
    pids = tmp_path / "pids"
    task_id = engine.submit("hang_with_child", str(pids), timeout=0.3)
    wait_for(pids.exists, "both processes are there")
    clock.go_on()
    assert_timed_out(engine.final(task_id))
    handler_pid, grandchild_pid = map(int, pids.read_text().split())
    wait_for(
        lambda: not is_alive(handler_pid) and not is_alive(grandchild_pid),
        "both processes are gone",
    )
    assert engine.run("process_id").status is TaskStatus.COMPLETED


def test_timeouts_next_to_the_end_of_the_handler_hit_nothing_else(make_engine: Any) -> None:
    """Handlers that take about as long as they may: every one has one outcome, and no interrupt gets out of them."""
    engine = make_engine(num_workers=2)

    @engine.handler
    def about(seconds: float) -> str:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        return "in time"

    engine.worker.start()
    # The first ones are in time however busy the machine is, the last ones never.
    durations = [0.0] * 20 + [0.004 + 0.00002 * n for n in range(200)]
    ids = engine.submit_many("about", [(seconds,) for seconds in durations], timeout=0.006)
    outcomes = [engine.final(task_id) for task_id in ids]
    for task in outcomes:
        assert (task.status, task.result) == (TaskStatus.COMPLETED, "in time") or assert_timed_out(
            task
        )
    assert {task.status for task in outcomes} == {TaskStatus.COMPLETED, TaskStatus.FAILED}
    assert engine.works()
    snapshot = engine.worker.snapshot()
    assert (snapshot["total"], snapshot["abandoned"]) == (2, 0)


def test_a_handler_inside_the_engine_is_interrupted_only_when_it_has_left_it(
    make_engine: Any,
) -> None:
    """Its submission goes through a transaction that other submitters may share."""
    engine = make_engine()
    broken: list[BaseException] = []
    inserted = threading.Event()
    insert = engine.runtime.stores.submissions.insert

    def slow_insert(*args: Any, **options: Any) -> Any:
        try:
            until = time.perf_counter() + 0.2
            while time.perf_counter() < until:
                pass
        except BaseException as exc:
            broken.append(exc)
        inserted.set()
        return insert(*args, **options)

    @engine.handler
    def submits() -> str:
        if not inserted.is_set():
            engine.submit("other")
        while True:
            pass

    engine.handler(lambda: None, name="other")
    task_id = engine.submit("submits", timeout=0.1)
    engine.runtime.stores.submissions.insert = slow_insert
    engine.worker.start()
    assert assert_timed_out(engine.final(task_id)) == "ran longer than its timeout of 0.1 s"
    assert inserted.is_set()
    assert broken == []


def test_a_handler_that_waits_for_another_task_is_interrupted(engine: Engine) -> None:
    @engine.handler
    def waits() -> None:
        other = engine.submit("other", delay=600)
        engine.runtime.tasks.wait("default", other, 600)

    engine.handler(lambda: None, name="other")
    task = engine.run("waits", timeout=0.2)
    assert "abandoned" not in assert_timed_out(task)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
