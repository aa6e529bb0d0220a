"""Lists and statistics come from the replica, everything that must be current from the primary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from taskflow.app import TaskFlow
from taskflow.core.errors import ConfigurationError, StoreReadOnlyError, StoreUnavailableError
from taskflow.core.registry import Registry, TaskOptions
from tests.support.postgres import Postgres

# A question that the two answer differently: with where it was asked, or, on the replica, with an error.
ANSWER = """
    CREATE FUNCTION question() RETURNS text LANGUAGE plpgsql AS $$ BEGIN {} RETURN '{}'; END $$
"""
RAISE = "RAISE EXCEPTION 'as a standby might say' USING ERRCODE = '{}';"


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(lambda: None, name="noop", declared=TaskOptions())
    return registry


@pytest.fixture
def replica(
    registry: Registry,
    postgres_server: Postgres,
    postgres_url_factory: Callable[[], str],
    tmp_path: Path,
) -> str:
    """It lags without end: a database of its own, with one task that the primary does not have. It is read-only, as a
    standby is: what writes or locks there fails."""
    url = postgres_url_factory()
    with TaskFlow(home=tmp_path, database_url=url, handlers=registry, num_workers=0) as there:
        there.options(name="on the replica").submit("noop")
    name = urlsplit(url).path[1:]
    postgres_server.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    return url


@pytest.fixture
def app(
    registry: Registry, postgres_url_factory: Callable[[], str], tmp_path: Path, replica: str
) -> Iterator[TaskFlow]:
    app = TaskFlow(
        home=tmp_path, database_url=postgres_url_factory(), database_replica_url=replica,
        handlers=registry, num_workers=0, database_statement_timeout_seconds=2,
    )  # fmt: skip
    with app:
        yield app


@pytest.fixture
def change(postgres_server: Postgres) -> Callable[[str, str], None]:
    """``change(url, statement)``: also on the replica."""

    def run(url: str, statement: str) -> None:
        postgres_server.execute(statement, database=urlsplit(url).path[1:])

    return run


def names(app: TaskFlow) -> list[str | None]:
    return [task.name for task in app.list().items]


def asked(connection: sa.Connection, statement: str = "SELECT question()") -> Any:
    return connection.execute(sa.text(statement)).scalar()


def test_what_may_lag_is_read_from_the_replica(app: TaskFlow) -> None:
    handle = app.options(name="on the primary").submit("noop")
    app.submit("noop")
    assert names(app) == ["on the replica"]
    assert app.metrics()["queue"]["pending_count"] == 1
    assert app.dead_letters.groups() == []
    assert handle.task().name == "on the primary"
    assert [event.type for event in handle.history()] == ["task.submitted"]
    assert handle.cancel().status == "cancelled"
    assert handle.wait(timeout=10).status == "cancelled"


def test_nothing_that_is_asked_of_the_replica_writes_or_locks_there(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    filters: list[dict[str, Any]] = [
        {}, {"status": "pending"}, {"status": ["failed", "expired"]}, {"task": "noop"}, {"priority": "normal"},
        {"tag": "none"}, {"q": "noop"}, {"created_after": datetime(2020, 1, 1, tzinfo=UTC)},
    ]  # fmt: skip
    for where in filters:
        app.list(**where)
    app.dead_letters.list()
    app.dead_letters.groups()
    app.metrics()
    app.runtime.stores.insights.backlog(most=10)
    assert caplog.records == []
    assert names(app) == ["on the replica"]


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57P01"])
def test_what_a_standby_cancelled_to_catch_up_is_asked_of_the_primary(
    app: TaskFlow, replica: str, change: Callable[[str, str], None], sqlstate: str
) -> None:
    change(replica, ANSWER.format(RAISE.format(sqlstate), "replica"))
    change(app.settings.database_url, ANSWER.format("", "primary"))
    assert app.runtime.database.ask(asked) == "primary"
    assert names(app) == []  # the replica rests


def test_a_statement_that_takes_too_long_is_not_repeated_on_the_primary(
    app: TaskFlow, caplog: pytest.LogCaptureFixture
) -> None:
    app.options(name="on the primary").submit("noop")
    questions = []

    def slow(connection: sa.Connection) -> Any:
        questions.append(connection)
        return asked(connection, "SELECT pg_sleep(30)::text")

    with pytest.raises(StoreUnavailableError, match="STATEMENT_TIMEOUT_SECONDS"):
        app.runtime.database.ask(slow)
    assert len(questions) == 1
    assert caplog.records == []
    assert names(app) == ["on the replica"]


def test_a_statement_that_would_write_is_an_error_and_no_reason_to_leave_the_replica(
    app: TaskFlow,
) -> None:
    lock = "SELECT id::text FROM tasks FOR UPDATE"
    with pytest.raises(StoreReadOnlyError):
        app.runtime.database.ask(lambda connection: asked(connection, lock))
    assert names(app) == ["on the replica"]


def test_the_primary_answers_while_the_replica_does_not(
    app: TaskFlow,
    replica: str,
    change: Callable[[str, str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.options(name="on the primary").submit("noop")
    assert names(app) == ["on the replica"]
    change(replica, "ALTER TABLE tasks RENAME TO gone")  # as before its first copy
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert names(app) == ["on the primary"]
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
