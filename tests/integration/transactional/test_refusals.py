"""Connections that cannot be joined are refused in one sentence, and left as they were."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from taskflow.app import TaskFlow
from taskflow.client import Client
from taskflow.core.errors import (
    InvalidRequestError,
    StatementTimeoutError,
    StoreUnavailableError,
    TaskNotFoundError,
)
from tests.integration.transactional.conftest import POSTGRESQL, Caller


def refused(app: TaskFlow, connection: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequestError, match=sentence) as error:
        app.options(connection=connection).submit("echo_back", 1)
    assert error.value.fields[0]["field"] == "connection"
    assert app.list().items == []


@pytest.mark.parametrize("kind", ["psycopg2"])
def test_another_database(app: TaskFlow, postgres_url_factory: Callable[[], str]) -> None:
    with closing(psycopg2.connect(postgres_url_factory())) as elsewhere:
        refused(app, elsewhere, "another database")
        elsewhere.cursor().execute("SELECT 1")  # its transaction is unharmed


@pytest.mark.parametrize("kind", ["psycopg2"])
def test_the_same_database_with_other_tables_of_the_same_name(
    app: TaskFlow, caller: Caller
) -> None:
    cursor = caller.connection.cursor()
    cursor.execute("CREATE SCHEMA mine; CREATE TABLE mine.tasks (id INTEGER)")
    cursor.execute("SET LOCAL search_path = mine, public")
    refused(app, caller.connection, "search_path to other tables")


@pytest.mark.parametrize("kind", POSTGRESQL[:2], indirect=True)
@pytest.mark.parametrize("table", ["events", "task_dependencies"])
def test_the_same_database_with_another_table_of_any_of_our_names(
    app: TaskFlow, caller: Caller, table: str
) -> None:
    cursor = caller.connection.cursor()
    cursor.execute(f"CREATE SCHEMA mine; CREATE TABLE mine.{table} (id INTEGER)")
    cursor.execute("SET LOCAL search_path = mine, public")
    refused(app, caller.connection, "search_path to other tables")
    caller.connection.rollback()
    caller.connection.cursor().execute(f"CREATE TEMPORARY TABLE {table} (id INTEGER)")
    refused(app, caller.connection, "search_path to other tables")


@pytest.mark.parametrize("kind", POSTGRESQL[:2], indirect=True)
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_an_encoding_that_cannot_carry_every_task(
    app: TaskFlow, caller: Caller, encoding: str
) -> None:
    if isinstance(caller.connection, psycopg2.extensions.connection):
        caller.connection.set_client_encoding(encoding)
    else:
        caller.connection.execute(f"SET client_encoding = '{encoding}'")
    refused(app, caller.connection, f"client_encoding is {encoding}, not UTF8")


@pytest.mark.parametrize("kind", POSTGRESQL[:2], indirect=True)
def test_a_statement_timeout_of_the_callers_own_is_not_told_as_ours(
    app: TaskFlow, caller: Caller
) -> None:
    caller.insert(1)
    caller.connection.cursor().execute("SET LOCAL statement_timeout = 200")
    with closing(psycopg2.connect(caller.url)) as holder:
        holder.cursor().execute("LOCK TABLE task_inputs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StatementTimeoutError, match="the caller's own") as error:
            app.options(connection=caller.connection).submit("echo_back", 1)
    assert "TASKFLOW_DATABASE_STATEMENT_TIMEOUT_SECONDS" not in error.value.detail
    caller.commit()
    assert caller.orders() == [1]


@pytest.mark.parametrize("kind", POSTGRESQL[:2], indirect=True)
def test_a_role_without_rights(app: TaskFlow, caller: Caller) -> None:
    caller.insert(1)
    caller.connection.cursor().execute("SET LOCAL ROLE pg_monitor")
    with pytest.raises(StoreUnavailableError, match="does not allow it: permission denied"):
        app.options(connection=caller.connection).submit("echo_back", 1)
    caller.commit()
    assert caller.orders() == [1]


def test_a_snapshot_that_is_old(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with (  # nobody else: whoever writes at that very moment would be what is in the way
        TaskFlow(home=tmp_path, database_url=f"sqlite:///{file}", num_workers=0) as app,
        closing(sqlite3.connect(file)) as connection,
    ):
        connection.execute("BEGIN")
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
        app.submit("echo", 1)
        calls = app.options(connection=connection)
        with pytest.raises(StoreUnavailableError, match="roll it back, and begin it again"):
            calls.submit("echo", 2)
        connection.rollback()
        handle = calls.submit("echo", 2)
        connection.commit()
        assert handle.task().args == [2]


def test_no_refusal_shows_a_password(tmp_path: Path, postgres_store: str) -> None:
    url = f"{postgres_store}?password=secret"
    with (
        TaskFlow(home=tmp_path, database_url=url, num_workers=0) as app,
        closing(sqlite3.connect(":memory:")) as memory,
        pytest.raises(InvalidRequestError, match="leads to SQLite") as error,
    ):
        app.options(connection=memory).submit("echo", 1)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("kind", ["sqlite3"])
def test_another_file(app: TaskFlow, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
        refused(app, other, "other.db, the store is .*store.db")
    with closing(sqlite3.connect(":memory:")) as memory:
        refused(app, memory, "in memory")


@pytest.mark.parametrize("kind", ["psycopg2"])
def test_sqlite_when_the_store_is_in_postgresql(app: TaskFlow) -> None:
    with closing(sqlite3.connect(":memory:")) as memory:
        refused(app, memory, "leads to SQLite")


@pytest.mark.parametrize("kind", ["sqlite3"])
def test_postgresql_when_the_store_is_in_sqlite(app: TaskFlow, postgres_database: str) -> None:
    with closing(psycopg2.connect(postgres_database)) as connection:
        refused(app, connection, "leads to PostgreSQL")


@pytest.mark.parametrize("kind", [*POSTGRESQL[:2], "sqlite3"], indirect=True)
def test_autocommit(app: TaskFlow, caller: Caller) -> None:
    if isinstance(caller.connection, sqlite3.Connection):
        caller.connection.isolation_level = None
    else:
        caller.connection.autocommit = True
    refused(app, caller.connection, "autocommit")
    # A transaction begun by hand is one.
    caller.connection.cursor().execute("BEGIN")
    handle = app.submit("echo_back", 1, connection=caller.connection)
    caller.connection.cursor().execute("COMMIT")
    assert handle.result(timeout=30) == 1


@pytest.mark.parametrize("kind", ["sqlalchemy-postgresql+psycopg2", "sqlalchemy-sqlite"], indirect=True)  # fmt: skip
def test_autocommit_of_sqlalchemy(app: TaskFlow, caller: Caller) -> None:
    connection = caller.connection.execution_options(isolation_level="AUTOCOMMIT")
    refused(app, connection, "autocommit")


@pytest.mark.parametrize("kind", POSTGRESQL[:2], indirect=True)
def test_a_transaction_that_has_failed(app: TaskFlow, caller: Caller) -> None:
    caller.insert(1)
    with pytest.raises(Exception, match="duplicate key"):
        caller.insert(1)
    refused(app, caller.connection, "failed already")


def test_a_closed_connection(app: TaskFlow, caller: Caller) -> None:
    caller.connection.close()
    if isinstance(caller.connection, sqlite3.Connection):
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            app.submit("echo_back", 1, connection=caller.connection)
    elif isinstance(caller.connection, sa.orm.Session):
        handle = app.submit("echo_back", 1, connection=caller.connection)  # it takes another one
        caller.rollback()
        with pytest.raises(TaskNotFoundError):
            handle.task()
    else:
        refused(app, caller.connection, "closed")


@pytest.mark.parametrize("kind", ["sqlalchemy-postgresql+psycopg2"], indirect=True)
def test_what_is_no_connection(app: TaskFlow, caller: Caller) -> None:
    refused(app, caller.connection.engine, "sqlalchemy.engine.base.Engine cannot be joined")
    refused(app, "postgresql://", "str cannot be joined")


def test_a_server_far_away_cannot_join() -> None:
    client = Client("http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match="cannot join"):
        client.options(connection=object()).submit("echo_back", 1)
    client.close()
