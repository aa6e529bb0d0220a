"""PostgreSQL goes away and comes back, under load: nothing that was answered is lost, and nothing happens twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskflow.app import TaskFlow
from taskflow.core.errors import StoreUnavailableError
from taskflow.core.registry import Registry, TaskOptions
from tests.support.postgres_cluster import Cluster, cluster

PATIENCE_SECONDS = 90


@pytest.fixture
def postgres() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def waiting(app: TaskFlow) -> int:
    counts = app.metrics()["queue"]
    return int(counts["depth"] + counts["running_count"])


class Load:
    """Threads that submit numbered tasks until told to stop; each knows which were answered."""

    def __init__(self, app: TaskFlow) -> None:
        self.app = app
        self.answered: list[str] = []
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._submit, args=(n,)) for n in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _submit(self, submitter: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            name = f"{submitter}-{number}"
            try:
                self.app.options(name=name).submit("count", name)
            except StoreUnavailableError:
                self.refused += 1
                time.sleep(0.02)
            else:
                self.answered.append(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_restarts_under_load(postgres: Cluster, tmp_path: Path) -> None:
    runs: Counter[str] = Counter()
    registry = Registry()
    registry.add(lambda name: runs.update([name]), name="count", declared=TaskOptions())
    app = TaskFlow(
        home=tmp_path, database_url=postgres.url, handlers=registry, num_workers=4, lease_seconds=3,
        retry_base_seconds=0.1, database_connect_timeout_seconds=1, max_crashes=50,
    )  # fmt: skip
    with app, Load(app) as load:
        for _ in range(3):
            before = len(load.answered)
            until(lambda before=before: len(load.answered) > before + 300, "nothing is accepted")  # type: ignore[misc]
            refused = load.refused
            postgres.stop()  # as in a crash
            until(lambda refused=refused: load.refused > refused, "the store still answers")  # type: ignore[misc]
            postgres.start()
        load.__exit__()
        until(lambda: waiting(app) == 0, "tasks are left")
        with app.runtime.database.read() as connection:
            stored = Counter(connection.scalars(sa.text("SELECT name FROM tasks")))
            unfinished = connection.scalar(
                sa.text("SELECT count(*) FROM tasks WHERE status <> 'completed'")
            )
            finished_twice = connection.scalar(
                sa.text(
                    "SELECT count(*) FROM (SELECT task_id FROM events WHERE type = 'task.completed' "
                    "GROUP BY task_id HAVING count(*) > 1) t"
                )
            )
    assert [name for name in load.answered if stored[name] != 1] == []
    assert [name for name, count in stored.items() if count != 1] == []
    assert (unfinished, finished_twice) == (0, 0)
    assert [name for name in stored if not runs[name]] == []


def test_a_database_that_is_away_is_a_clear_error_and_comes_back_by_itself(
    postgres: Cluster, tmp_path: Path
) -> None:
    registry = Registry()
    registry.add(lambda: None, name="noop", declared=TaskOptions())
    app = TaskFlow(home=tmp_path, database_url=postgres.url, handlers=registry, num_workers=1)
    with app:
        app.submit("noop").result(timeout=30)
        postgres.stop()
        with pytest.raises(StoreUnavailableError, match="PostgreSQL did not answer"):
            app.submit("noop")
        postgres.start()
        # Connections of before are found to be dead before anything is done on them.
        assert app.list().items
        app.submit("noop").result(timeout=30)


def test_a_read_without_statement_timeout_notices_a_dead_connection_too(
    postgres: Cluster, tmp_path: Path
) -> None:
    registry = Registry()
    registry.add(lambda: None, name="noop", declared=TaskOptions())
    app = TaskFlow(
        home=tmp_path / "home", database_url=postgres.url, handlers=registry, num_workers=0,
        database_statement_timeout_seconds=0,
    )  # fmt: skip
    with app:
        app.submit("noop")
        for read in (app.list, app.metrics, lambda: app.backups.backup(tmp_path / "backup")):
            read()
            postgres.stop()
            postgres.start()
            read()
