"""Lists and statistics come from the replica, everything that must be current from the primary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import ConfigurationError
from taskflow.core.registry import Registry, TaskOptions


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(lambda: None, name="noop", declared=TaskOptions())
    return registry


@pytest.fixture
def app(
    registry: Registry, postgres_url_factory: Callable[[], str], tmp_path: Path
) -> Iterator[TaskFlow]:
    """Its replica lags without end: it is a database of its own, with one task that the primary does not have."""
    replica = postgres_url_factory()
    with TaskFlow(home=tmp_path, database_url=replica, handlers=registry, num_workers=0) as there:
        there.options(name="on the replica").submit("noop")
    app = TaskFlow(
        home=tmp_path, database_url=postgres_url_factory(), database_replica_url=replica,
        handlers=registry, num_workers=0,
    )  # fmt: skip
    with app:
        yield app


def test_what_may_lag_is_read_from_the_replica(app: TaskFlow) -> None:
    handle = app.options(name="on the primary").submit("noop")
    app.submit("noop")
    assert [task.name for task in app.list().items] == ["on the replica"]
    assert app.metrics()["queue"]["pending_count"] == 1
    assert app.dead_letters.groups() == []
    assert handle.task().name == "on the primary"
    assert [event.type for event in handle.history()] == ["task.submitted"]
    assert handle.cancel().status == "cancelled"
    assert handle.wait(timeout=10).status == "cancelled"


def test_the_primary_answers_while_the_replica_does_not(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    app.options(name="on the primary").submit("noop")
    assert [task.name for task in app.list().items] == ["on the replica"]
    replica = app.settings.database_replica_url
    with TaskFlow(
        app.settings, database_url=replica, database_replica_url="", handlers=Registry()
    ) as there:
        runtime = there.runtime
        with runtime.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "ALTER TABLE tasks RENAME TO gone"
            )  # as before its first copy
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [task.name for task in app.list().items] == ["on the primary"]
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith("replica.unavailable")


def test_a_replica_that_cannot_be_reached(
    registry: Registry, postgres_store: str, tmp_path: Path
) -> None:
    with TaskFlow(
        home=tmp_path, database_url=postgres_store, handlers=registry, num_workers=0,
        database_replica_url="postgresql://nobody@127.0.0.1:1/none",
    ) as app:  # fmt: skip
        app.submit("noop")
        assert len(app.list().items) == 1


def test_a_replica_of_sqlite_is_refused(tmp_path: Path) -> None:
    app = TaskFlow(home=tmp_path, database_replica_url="postgresql://localhost/db")
    with pytest.raises(ConfigurationError, match="TASKFLOW_DATABASE_REPLICA_URL"):
        app.start()
