"""What a worker takes from the queue, and what it leaves to others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from taskflow.core.task import TaskStatus
from tests.integration.worker.engine import Engine, Gate, is_pending, wait_for


def watch_claims(engine: Engine) -> list[int]:
    """How many tasks each transaction claims from now on."""
    sizes: list[int] = []
    start = engine.runtime.execution.start

    def watched(deliveries: Any, **options: Any) -> Any:
        sizes.append(len(deliveries))
        return start(deliveries, **options)

    engine.runtime.execution.start = watched  # type: ignore[method-assign]
    return sizes


def test_tasks_nobody_knows_are_claimed_for_free_slots_only(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=3)
    engine.handler(gate.pass_through, name="new")
    ids = engine.submit_many("new", [()] * 20)
    sizes = watch_claims(engine)
    engine.worker.start()
    gate.wait_for(3)
    assert sizes == [3]
    assert sum(is_pending(engine, task_id) for task_id in ids) == 17
    gate.open()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}


def test_short_tasks_are_claimed_many_at_a_time(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(num_workers=2)
    engine.handler(lambda: None, name="short")
    engine.worker.start()
    engine.run("short")
    engine.worker.stop()
    ids = engine.submit_many("short", [()] * 1_500)
    sizes = watch_claims(engine)
    engine.worker.start()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}
    # SQS hands out ten at a time, and never more than can start soon.
    assert max(sizes) >= (10 if engine.runtime.queue.durable else 100)
    assert max(sizes) <= 260


def test_what_a_long_task_blocks_goes_back_to_the_queue(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=1)

    @engine.handler
    def mostly_short(is_long: bool) -> None:
        if is_long:
            gate.pass_through()

    engine.worker.start()
    for _ in range(3):
        engine.run("mostly_short", False)
    # All are due, and claimed, at the same moment: none of them is started as it is stored.
    blocked = engine.submit_many("mostly_short", [(True,)] + [(False,)] * 30, delay=0.05)
    gate.wait_for()
    wait_for(
        lambda: {engine.get(task_id).attempt for task_id in blocked[1:]} == {0},
        "the others are given back, and lose nothing by it",
    )
    gate.open()
    assert {engine.final(task_id).status for task_id in blocked} == {TaskStatus.COMPLETED}


def test_a_high_priority_task_does_not_wait_behind_long_ones(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=1)
    order: list[str] = []

    @engine.handler
    def work(name: str) -> None:
        gate.pass_through()
        order.append(name)

    engine.worker.start()
    engine.submit("work", "first")
    gate.wait_for()
    ids = [
        engine.submit("work", "low", priority="low"),
        engine.submit("work", "critical", priority="critical"),
    ]
    gate.open()
    for task_id in ids:
        engine.final(task_id)
    if engine.runtime.queue.durable:
        # From SQS they come in no order: which of the two is here first when the slot becomes free, is.
        assert sorted(order[1:]) == ["critical", "low"]
    else:
        assert order == ["first", "critical", "low"]


def test_a_dedicated_worker_serves_only_its_priorities(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(worker_priorities="critical,high")
    engine.handler(lambda: None, name="job")
    engine.worker.start()
    other = engine.submit("job", priority="normal")
    assert engine.run("job", priority="high").status is TaskStatus.COMPLETED
    assert engine.run("job", priority="critical").status is TaskStatus.COMPLETED
    assert is_pending(engine, other)


def test_a_dedicated_worker_serves_only_its_tasks(make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(worker_tasks="mine")
    engine.handler(lambda: "done", name="mine")
    engine.handler(lambda: None, name="not_mine")
    engine.worker.start()
    other = engine.submit("not_mine")
    assert engine.run("mine").result == "done"
    assert is_pending(engine, other)


def test_a_dedicated_worker_says_which_of_its_tasks_it_does_not_know(
    make_engine: Callable[..., Engine], caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(worker_tasks="mine,mispelled")
    engine.handler(lambda: "done", name="mine")
    engine.worker.start()
    [said] = [line for line in caplog.messages if "worker.task_unknown" in line]
    assert "mispelled" in said
    assert "TASKFLOW_WORKER_TASKS" in said


def test_a_task_that_is_not_registered_here_is_left_to_others_until_it_is(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine()
    engine.handler(lambda: "late", name="later")
    task_id = engine.submit("later")
    del engine.registry._handlers["later"]  # as in a process that does not import its module
    engine.worker.start()
    assert engine.works()
    assert is_pending(engine, task_id)
    engine.handler(lambda: "late", name="later")
    assert engine.final(task_id).result == "late"


def test_a_task_waits_until_what_it_needs_is_free(
    make_engine: Callable[..., Engine], gate: Gate
) -> None:
    engine = make_engine(num_workers=4, worker_resources="gpu=2")
    running: set[str] = set()
    most = 0

    def use_gpu(name: str) -> None:
        nonlocal most
        running.add(name)
        most = max(most, len(running))
        gate.pass_through()
        running.discard(name)

    engine.handler(use_gpu, resources={"gpu": 1})
    engine.worker.start()
    ids = [engine.submit("use_gpu", str(n)) for n in range(6)]
    gate.wait_for(2)
    assert engine.works()  # other tasks are not held up
    assert engine.worker.snapshot()["resources"] == {"gpu": {"total": 2.0, "used": 2.0}}
    gate.open()
    assert {engine.final(task_id).status for task_id in ids} == {TaskStatus.COMPLETED}
    assert most == 2
    wait_for(
        lambda: engine.worker.snapshot()["resources"] == {"gpu": {"total": 2.0, "used": 0.0}},
        "all of it is free again",
    )


def test_resources_are_free_again_however_an_attempt_ends(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine(num_workers=2, worker_resources="gpu=1", abandon_grace_seconds=0.1)

    def use_gpu(how: str) -> None:
        if how == "spin":
            while True:
                pass
        if how == "raise":
            raise ValueError(how)
        if how == "block":
            threading.Event().wait(0.4)

    engine.handler(use_gpu, resources={"gpu": 1})
    engine.worker.start()
    for how in ("spin", "raise", "block", "return"):
        engine.run("use_gpu", how, timeout=0.1)
    with pytest.raises(Exception, match="missing"):
        engine.submit("use_gpu")
    assert engine.run("use_gpu", "return").status is TaskStatus.COMPLETED


def test_a_task_that_needs_more_than_there_is_is_never_taken(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine(worker_resources="gpu=1")
    engine.handler(lambda: None, name="too_big", resources={"gpu": 2})
    engine.handler(lambda: None, name="elsewhere", resources={"fpga": 1})
    ids = [engine.submit("too_big"), engine.submit("elsewhere")]
    engine.worker.start()
    assert engine.works()
    assert all(is_pending(engine, task_id) for task_id in ids)
    assert engine.worker.snapshot()["not_served"] == ["elsewhere", "too_big"]


def test_a_task_that_never_ran_here_is_not_kept_waiting_by_a_flood_of_short_ones(
    make_engine: Callable[..., Engine],
) -> None:
    """Nobody knows whether it is short, so it needs a free slot; short ones claimed ahead must not take them all."""
    engine = make_engine(num_workers=2)
    ended: list[str] = []
    engine.handler(lambda: ended.append("short"), name="short")
    engine.handler(lambda: ended.append("new"), name="new")
    engine.worker.start()
    engine.run("short")
    engine.worker.stop()
    engine.submit_many("short", [()] * 3_000)
    new = engine.submit("new", priority="high")
    engine.worker.start()
    engine.final(new)
    assert ended.index("new") < 1_500
