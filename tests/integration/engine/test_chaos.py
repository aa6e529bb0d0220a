"""A whole TaskFlow on a queue that duplicates, delays, reorders, forgets acks and refuses messages."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.core.context import TaskContext
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.task import TaskStatus

TASKS = 60


class Witness:
    """What handlers saw: who was inside which task, and how often."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[str] = set()
        self.overlaps: list[str] = []
        self.runs: Counter[str] = Counter()

    def __call__(self, ctx: TaskContext, number: int) -> str:
        with self._lock:
            if ctx.task_id in self._inside:
                self.overlaps.append(ctx.task_id)
            self._inside.add(ctx.task_id)
            self.runs[ctx.task_id] += 1
        try:
            threading.Event().wait(0.002)  # long enough for a duplicate to arrive meanwhile
            if number % 7 == 3 and ctx.attempt == 1:
                raise ConnectionError("the first attempt fails")
            if number % 11 == 5:
                raise ValueError("this one always fails")
            return f"{number} in attempt {ctx.attempt}"
        finally:
            with self._lock:
                self._inside.discard(ctx.task_id)


def settings(home: Path, seed: int) -> dict[str, Any]:
    # The visibility timeout is twice the lease: what was not acked comes back within the test.
    return {
        "home": home,
        "chaos_seed": seed,
        "lease_seconds": 1.0,
        "retry_base_seconds": 0.05,
        "default_max_retries": 2,
    }


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_task_ends_once_whatever_the_queue_does(tmp_path: Path, seed: int) -> None:
    registry, witness = Registry(), Witness()

    def work(number: int, ctx: TaskContext) -> str:
        return witness(ctx, number)

    registry.add(work, declared=TaskOptions())
    options = settings(tmp_path / "home", seed)
    with (
        TaskFlow(handlers=registry, num_workers=4, **options) as app,
        TaskFlow(handlers=registry, num_workers=0, **options) as submitter,
    ):
        handles = [app.submit("work", number) for number in range(TASKS // 3)]
        handles += app.submit_many(
            [("work", (number,), {}) for number in range(TASKS // 3, TASKS // 2)]
        )
        handles += [
            app.options(delay=0.3, priority="low").submit("work", number)
            for number in range(TASKS // 2, TASKS * 2 // 3)
        ]
        # These go through the outbox only: their process has no worker.
        handles += [submitter.submit("work", number) for number in range(TASKS * 2 // 3, TASKS)]
        handles.append(app.options(depends_on=[handles[0].id]).submit("work", 1))

        tasks = [app.wait(handle.id, 60) for handle in handles]
        expected = {number: number % 11 != 5 for number in range(TASKS)}
        for task in tasks:
            [number] = task.args
            assert isinstance(number, int)
            right = TaskStatus.COMPLETED if expected[number] else TaskStatus.FAILED
            assert task.status is right, task
            events = Counter(event.type.value for event in app.history(task.task_id))
            ends = events["task.completed"] + events["task.failed"]
            assert ends == 1, events
            # One run for each attempt that the store knows of: no duplicate got in.
            assert witness.runs[task.task_id] == events["task.started"] == task.attempt
            if right is TaskStatus.COMPLETED:
                assert task.result == f"{number} in attempt {task.attempt}"
        assert witness.overlaps == []
    assert len(witness.runs) == TASKS + 1


def test_what_waits_when_the_process_ends_is_run_by_the_next_one(tmp_path: Path) -> None:
    registry, witness = Registry(), Witness()

    def work(number: int, ctx: TaskContext) -> str:
        return witness(ctx, number)

    registry.add(work, declared=TaskOptions())
    options = settings(tmp_path / "home", 5)
    with TaskFlow(handlers=registry, num_workers=1, **options) as app:
        app.stop_workers()
        handles = app.submit_many([("work", (number,), {}) for number in (0, 1, 2, 4)] * 10)
    with TaskFlow(handlers=registry, num_workers=4, **options) as app:
        for handle in handles:
            assert app.wait(handle.id, 60).status is TaskStatus.COMPLETED
    assert set(witness.runs.values()) == {1}


def test_without_a_seed_nothing_is_injected(tmp_path: Path) -> None:
    with TaskFlow(home=tmp_path, num_workers=1, handlers=Registry()) as app:
        assert type(app.runtime.queue).__name__ == "LocalTaskQueue"
