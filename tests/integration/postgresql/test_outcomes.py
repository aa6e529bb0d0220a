"""How a worker gets its outcomes written when PostgreSQL is slow, or somebody else holds what they are about."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, TaskStatus
from taskflow.ports.metadata import Outcome
from taskflow.services.execution import Attempt
from tests.integration.worker.engine import Engine, Gate, wait_for

Done = list[tuple[Attempt, Outcome]]

# 0.04 s for every result: a batch of 25 is too much for the statement timeout of a second, one of 20 is not.
SLOW_RESULTS = """
CREATE FUNCTION slow_result() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.04); RETURN NEW; END $$;
CREATE TRIGGER slow_result BEFORE INSERT ON task_results FOR EACH ROW EXECUTE FUNCTION slow_result()
"""


@pytest.fixture
def make_engine(tmp_path: Path, postgres_store: str) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def make(**settings: Any) -> Engine:
        engines.append(Engine(tmp_path / "home", database_url=postgres_store, **settings))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def watched(engine: Engine, look: Callable[[Done], object]) -> None:
    """``look`` at every batch before it is written."""
    finish = engine.runtime.execution.finish

    def finish_watched(done: Done) -> frozenset[Outcome]:
        look(done)
        return finish(done)

    engine.runtime.execution.finish = finish_watched  # type: ignore[method-assign, assignment]


def test_a_batch_that_takes_longer_than_the_statement_timeout_is_halved(
    make_engine: Callable[..., Engine],
) -> None:
    engine = make_engine(database_statement_timeout_seconds=1.0)
    with engine.runtime.database.engine.begin() as connection:
        connection.execute(sa.text(SLOW_RESULTS))
    ended, all_ended, sizes = [], Gate(), list[int]()

    def end(number: int) -> None:
        ended.append(number)
        if len(ended) == 50:
            all_ended.open()

    def wait_for_all(done: Done) -> None:
        all_ended.pass_through()
        sizes.append(len(done))

    engine.handler(end)
    watched(engine, wait_for_all)
    ids = engine.submit_many("end", [(n,) for n in range(50)])
    engine.worker.start()
    tasks = [engine.final(task_id) for task_id in ids]
    assert {(task.status, task.attempt) for task in tasks} == {(TaskStatus.COMPLETED, 1)}
    assert max(sizes) > 25
    assert sorted(ended) == list(range(50))


@pytest.mark.parametrize("held", ["the task", "what fails with it"])
def test_an_outcome_that_is_held_is_not_tried_with_every_other_one(
    make_engine: Callable[..., Engine], postgres_store: str, held: str
) -> None:
    """It waits longer and longer, up to 0.64 s, once its own slot and the finisher have tried."""
    engine, gate = make_engine(), Gate()

    @engine.handler
    def fail() -> None:
        gate.pass_through()
        raise ValueError("no")

    engine.handler(lambda: None, name="noop")
    engine.worker.start()
    parent = engine.submit("fail")
    child = engine.submit("noop", depends_on=[parent])
    gate.wait_for()
    tries: list[float] = []

    def count(done: Done) -> None:
        tries.extend(time.monotonic() for attempt, _ in done if attempt.task.task_id == parent)

    watched(engine, count)
    with closing(psycopg2.connect(postgres_store)) as callers:
        options = SubmitOptions.of(depends_on=[parent if held == "the task" else child])
        [late] = engine.runtime.submissions.submit_within(
            DEFAULT_TENANT, [Submission("noop", (), {}, options)], callers
        )
        gate.open()
        wait_for(lambda: bool(tries), "it is tried")
        for _ in range(10):  # batches of the finisher's: a slot writes only what is alone
            for task_id in engine.submit_many("noop", [()] * 50):
                assert engine.final(task_id).status is TaskStatus.COMPLETED
        pauses = [after - before for before, after in itertools.pairwise(tries)][1:]
        shortest = [min(0.64, 0.01 * 2**n) for n in range(len(pauses))]
        assert all(a >= b for a, b in zip(pauses, shortest, strict=True)), pauses
        assert engine.get(parent).status is TaskStatus.RUNNING
        callers.commit()
    assert engine.final(parent).status is TaskStatus.FAILED
    assert not isinstance(late, Exception)
    for task_id in (child, late.task_id):
        assert engine.final(task_id).status is TaskStatus.FAILED
