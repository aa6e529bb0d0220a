"""Payload files: one owner writes, nothing is left over, and a damaged one hides nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskflow.core.errors import PayloadMissingError
from taskflow.core.task import DEFAULT_TENANT
from taskflow.ports.metadata import TaskFilter
from tests.integration.services.conftest import Engine, Engines, noop

LARGE = "x" * 70_000


def lose_files(engine: Engine, part: str) -> None:
    keys = [key for key in engine.payload_files() if f"/{part}/" in key]
    assert keys
    engine.runtime.payloads.delete(keys)


def test_a_worker_that_lost_its_lease_cannot_overwrite_the_payload_of_the_result(
    engines: Engines,
) -> None:
    first, second = engines(), engines()
    task_id = first.submit(first.handler(noop))
    slow = first.start_one()
    first.clock.advance(31)
    assert second.runtime.recovery.run_once() == 0
    second.clock.advance(10)
    assert second.runtime.recovery.run_once() == 1
    second.runtime.relay.run_once()
    winner = second.start_one()
    second.succeed(winner, "winner" + LARGE)
    first.succeed(slow, "loser" + LARGE)
    assert first.get(task_id).result == "winner" + LARGE
    assert first.runtime.counters.snapshot()["totals"]["fenced"] == 1


def test_running_a_task_anew_deletes_the_file_of_its_old_result(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop), LARGE)
    engine.work()
    old = [key for key in engine.payload_files() if "/result/" in key]
    assert len(old) == 1
    engine.runtime.tasks.retry(DEFAULT_TENANT, task_id)
    assert engine.payload_files() == [f"default/input/{task_id}"]
    engine.work()
    assert engine.get(task_id).result == LARGE
    assert len(engine.payload_files()) == 2


def test_retention_deletes_the_files_with_their_tasks(engines: Engines) -> None:
    engine = engines(retention_days=30)
    task = engine.handler(noop)
    old, waiting = engine.submit(task, LARGE), engine.submit(task, LARGE, delay=40 * 86_400)
    engine.work()
    engine.clock.advance(timedelta(days=29.9).total_seconds())
    assert engine.runtime.retention.run_once() == 0
    engine.clock.advance(timedelta(days=0.2).total_seconds())
    assert engine.runtime.retention.run_once() == 1
    assert engine.payload_files() == [f"default/input/{waiting}"]
    assert engine.status(waiting) == "scheduled"
    assert engine.runtime.tasks.get_many(DEFAULT_TENANT, [old]) == []


def test_a_lost_arguments_file_fails_the_task_for_good_and_leaves_it_visible(
    engine: Engine,
) -> None:
    task = engine.handler(noop)
    broken, sound = engine.submit(task, LARGE), engine.submit(task, "small")
    lose_files(engine, "input")
    engine.work()
    failed = engine.get(broken)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.type == "PayloadMissingError"
    letters, _ = engine.runtime.dead_letters.list(DEFAULT_TENANT, limit=10, cursor=None)
    assert [letter.task_id for letter in letters] == [broken]
    tasks, _ = engine.runtime.tasks.list(DEFAULT_TENANT, TaskFilter(), limit=10, cursor=None)
    assert [(task.task_id, task.args) for task in tasks] == [(sound, ["small"]), (broken, None)]


def test_a_lost_result_is_said_to_be_lost_not_none_but_hides_no_other_task(engine: Engine) -> None:
    task = engine.handler(noop)
    broken, sound = engine.submit(task, LARGE), engine.submit(task, "small")
    engine.work()
    lose_files(engine, "result")
    with pytest.raises(PayloadMissingError):
        engine.get(broken)
    tasks, _ = engine.runtime.tasks.list(DEFAULT_TENANT, TaskFilter(), limit=10, cursor=None)
    assert [(task.task_id, task.result) for task in tasks] == [(sound, "small"), (broken, None)]
