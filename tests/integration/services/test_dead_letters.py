"""Failed tasks: grouped by their error, sent again (all at once or slowly), or put away."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.core.errors import InvalidRequestError
from taskflow.core.task import DEFAULT_TENANT
from tests.integration.services.conftest import Engine, noop


def fail(engine: Engine, exc: Exception, *args: Any, task: str = "noop", **options: Any) -> str:
    task_id = engine.submit(task, *args, **options)
    engine.fail(engine.start_one(), exc)
    assert engine.status(task_id) == "failed"
    return task_id


@pytest.fixture
def letters(engine: Engine) -> list[str]:
    """Three of one error, one of another, one of another task."""
    engine.handler(noop)
    engine.registry.add(lambda: None, name="other", declared=engine.registry.get("noop").declared)
    found = [fail(engine, ValueError(f"order {n} has no '{n}'")) for n in range(3)]
    found.append(fail(engine, KeyError("k")))
    found.append(fail(engine, KeyError("k"), task="other"))
    return found


def listed(engine: Engine, **filters: Any) -> list[str]:
    found, _ = engine.runtime.dead_letters.list(DEFAULT_TENANT, limit=100, cursor=None, **filters)
    return [task.task_id for task in found]


def test_failures_that_differ_only_in_values_are_one_group(
    engine: Engine, letters: list[str]
) -> None:
    groups = engine.runtime.dead_letters.groups(DEFAULT_TENANT)
    first, *others = [(group.task, group.error_type, group.count) for group in groups]
    assert first == ("noop", "ValueError", 3)
    assert sorted(others) == [("noop", "KeyError", 1), ("other", "KeyError", 1)]
    assert groups[0].sample_task_id in letters[:3]
    assert listed(engine, fingerprint=groups[0].fingerprint) == letters[2::-1]
    assert listed(engine, task="other") == letters[4:]


def test_a_group_is_sent_again_with_all_its_retries(engine: Engine, letters: list[str]) -> None:
    group = engine.runtime.dead_letters.groups(DEFAULT_TENANT)[0]
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT, fingerprint=group.fingerprint) == 3
    assert listed(engine) == letters[:2:-1]
    attempts = engine.start()
    assert sorted(attempt.task.task_id for attempt in attempts) == letters[:3]
    assert {(a.task.attempt, a.task.failure_count) for a in attempts} == {(1, 0)}


def test_at_a_rate_they_start_one_after_another(engine: Engine, letters: list[str]) -> None:
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT, rate_per_second=0.5) == 5
    started = []
    for _ in range(5):
        started.append(engine.work())
        engine.clock.advance(2)
    assert started == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1e-12])
def test_a_rate_that_makes_no_sense_is_refused(
    engine: Engine, letters: list[str], rate: float
) -> None:
    with pytest.raises(InvalidRequestError, match="rate_per_second"):
        engine.runtime.dead_letters.redrive(DEFAULT_TENANT, rate_per_second=rate)
    assert len(listed(engine)) == 5


def test_only_dead_letters_are_sent_again_by_id(engine: Engine, letters: list[str]) -> None:
    waiting = engine.submit("noop", delay=60)
    ids = [letters[0], letters[0], waiting, "nonsense", "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"]
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT, task_ids=ids) == 1
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT, task_ids=ids) == 0


def test_a_limit_takes_the_oldest(engine: Engine, letters: list[str]) -> None:
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT, limit=2) == 2
    assert listed(engine) == letters[:1:-1]


def test_put_away_they_stay_failed_and_leave_the_list(engine: Engine, letters: list[str]) -> None:
    discard = engine.runtime.dead_letters.discard
    assert discard(DEFAULT_TENANT, task_ids=letters[:2]) == 2
    assert discard(DEFAULT_TENANT, task_ids=letters[:2]) == 0
    assert listed(engine) == letters[:1:-1]
    assert discard(DEFAULT_TENANT, task="other") == 1
    assert discard(DEFAULT_TENANT) == 2
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT) == 0
    assert {engine.status(task_id) for task_id in letters} == {"failed"}
    assert engine.history(letters[0])[-1] == "discarded"
    assert engine.runtime.insights.metrics(None)["queue"]["failed_count"] == 5


def test_everything_sent_again_at_once_keeps_the_order_of_dependencies(engine: Engine) -> None:
    engine.handler(noop)
    root = engine.submit("noop")
    child = engine.submit("noop", depends_on=[root])
    engine.fail(engine.start_one(), ValueError())
    assert engine.runtime.dead_letters.redrive(DEFAULT_TENANT) == 2
    first = engine.start_one()
    assert first.task.task_id == root
    engine.succeed(first)
    assert [attempt.task.task_id for attempt in engine.start()] == [child]
