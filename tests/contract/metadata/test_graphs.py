"""Graphs of tasks that end from several sides at once, as random as they come, end as they would one by one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import DEPENDENCY_FAILED
from taskflow.core.ids import UUID7
from taskflow.core.task import FINAL, TaskStatus
from taskflow.ports.metadata import ClaimedTask, TaskKey
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.at_once import at_once

S = TaskStatus
ROUNDS = 12
SIDES = 3  # workers that finish at the same time, beside somebody who cancels
UNSUCCESSFUL = {S.FAILED, S.CANCELLED}


@pytest.fixture
def harness(postgres_store: str) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(postgres_store, clock=clock)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


class Graph:
    """Tasks that depend on up to three others each; those that depend on none run."""

    def __init__(self, harness: MetadataHarness, random_: random.Random) -> None:
        self._harness = harness
        self._random = random_
        ids = [harness.new_id() for _ in range(30)]
        random_.shuffle(
            ids
        )  # a submitting machine's clock may be behind: parents are not always the older ones
        roots, inner = ids[:8], ids[8:]
        self.parents: dict[str, list[str]] = {root: [] for root in roots}
        for task_id in inner:
            self.parents[task_id] = random_.sample(list(self.parents), random_.randint(1, 3))
        harness.insert(
            *(
                harness.new(id=task_id, task=random_.choice("ab"), depends_on=tuple(parents))
                for task_id, parents in self.parents.items()
            )
        )
        self.roots = roots
        self.released: list[str] = []
        self.ended: list[str] = []
        self._running = harness.claim(*map(key, roots))

    def end_all(self) -> None:
        """One generation after the other."""
        while self._running:
            assert self._end_those_that_run() == []
            self._check()
            self._running = self._harness.claim(*map(key, self._in(S.PENDING)))

    def _end_those_that_run(self) -> list[BaseException]:
        random_, running = self._random, self._running
        random_.shuffle(running)
        work: list[Callable[[], object]] = [
            partial(self._finish, running[side::SIDES], random_.choice([1, 3, 9]), random_.random())
            for side in range(SIDES)
        ]
        waiting = self._in(S.BLOCKED)
        cancelled = random_.sample(waiting, min(2, len(waiting)))
        work += [partial(self._cancel, task_id) for task_id in cancelled]
        return at_once(*work)

    def _finish(self, tasks: Sequence[ClaimedTask], size: int, seed: float) -> None:
        random_ = random.Random(seed)
        kinds = random_.choices([S.COMPLETED, S.FAILED, S.CANCELLED], [6, 3, 1], k=len(tasks))
        ends = [outcome(task, kind) for task, kind in zip(tasks, kinds, strict=True)]
        for start in range(0, len(ends), size):
            result = self._harness.finish(*ends[start : start + size])
            assert result.fenced == []
            self.ended += [ended.task_id for ended in result.ended]
            self.released += [entry.message.task_id for entry in result.to_send]

    def _cancel(self, task_id: str) -> None:
        result = self._harness.cancel(key(task_id))
        self.ended += [ended.task_id for ended in result.ended]

    def rows(self) -> dict[str, sa.Row[tuple[str, str, int, str | None]]]:
        t = schema.tasks
        columns = (t.c.id, t.c.status, t.c.waits_for, t.c.fingerprint)
        with self._harness.database.read() as connection:
            found = connection.execute(sa.select(*columns).where(t.c.id.in_(self.parents)))
            return {row.id: row for row in found}

    def _in(self, status: TaskStatus) -> list[str]:
        return [task_id for task_id, row in self.rows().items() if row.status == status]

    def _check(self) -> None:
        rows = self.rows()
        for task_id, parents in self.parents.items():
            row, of_parents = rows[task_id], [rows[parent].status for parent in parents]
            uncompleted = sum(status != S.COMPLETED for status in of_parents)
            if UNSUCCESSFUL & set(of_parents):
                assert row.status in UNSUCCESSFUL
            elif uncompleted:
                assert row.status in (S.BLOCKED, S.CANCELLED)
            else:
                assert row.status != S.BLOCKED
                assert row.fingerprint != DEPENDENCY_FAILED
            if row.status == S.BLOCKED or row.fingerprint == DEPENDENCY_FAILED:
                assert row.waits_for == uncompleted
        final = [task_id for task_id, row in rows.items() if row.status in FINAL]
        assert sorted(self.ended) == sorted(final)


def key(task_id: str) -> TaskKey:
    return TaskKey("default", task_id)


@pytest.mark.parametrize("seed", range(4))
def test_none_of_them_is_lost_or_counted_twice(harness: MetadataHarness, seed: int) -> None:
    random_ = random.Random(seed)
    statuses: Counter[str] = Counter()
    for _ in range(ROUNDS):
        graph = Graph(harness, random_)
        graph.end_all()
        rows = graph.rows()
        assert {row.status for row in rows.values()} <= FINAL
        statuses.update(row.status for row in rows.values())
        assert len(graph.released) == len(set(graph.released))
        histories = {task_id: harness.history(key(task_id)) for task_id in rows}
        ran = {task_id for task_id, events in histories.items() if "started" in events}
        assert ran <= {*graph.released, *graph.roots}
        assert all(sum(event in FINAL for event in events) == 1 for events in histories.values())
    counted = harness.insights.counts(None).by_status
    assert {
        status: count for status, count in counted.items() if status in FINAL and count
    } == statuses
