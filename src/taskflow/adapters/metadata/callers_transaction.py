"""A transaction that belongs to somebody else: our rows are written into it, and share its fate.

Taken are connections of SQLAlchemy (a Connection or an ORM Session, on one of these drivers), psycopg2, psycopg and
sqlite3. The rows stand behind a savepoint: if anything goes wrong with them the caller's own work is still there.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.postgresql import keep_ids_text
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.adapters.metadata.vendor_errors import translated
from taskflow.core.errors import InvalidRequestError

_SAVEPOINT = "SAVEPOINT taskflow_submit"
_RELEASE = "RELEASE SAVEPOINT taskflow_submit"
_UNDO = ("ROLLBACK TO SAVEPOINT taskflow_submit", _RELEASE)
# The same server since the same moment, the same database, and the same tables behind unqualified names.
_IDENTITY = ", ".join(
    [
        "SELECT (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text",
        "current_database()::text",
        "to_regprocedure('taskflow_now()')::oid::text",
        *(f"to_regclass('{name}')::oid::text" for name in schema.metadata.tables),
    ]
)
_NOW = "SELECT taskflow_now()"
_IDLE, _IN_ERROR = 0, 3  # libpq's PGTransactionStatusType


class CallersTransactions:
    """Thread safe; each connection, as ever, is for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._identity: Sequence[str] = ()

    @contextmanager
    def join(self, connection: object) -> Iterator[Transaction]:
        """The open transaction on ``connection``; one is begun if there is none. Neither commits nor rolls it back.

        Raises InvalidRequestError for what is no connection to this store, commits by itself, or has failed already.
        """
        driver = _driver(connection)
        is_sqlite = isinstance(driver, sqlite3.Connection)
        if is_sqlite is not self._database.is_sqlite:
            _refuse(
                f"it leads to {'SQLite' if is_sqlite else 'PostgreSQL'}, "
                f"the store is {self._database.address}"
            )
        with translated(is_callers=True):
            cursor = self._sqlite(driver) if is_sqlite else self._postgresql(driver)
            try:
                now = self._database.now if is_sqlite else lambda: _read_now(cursor)
                tx = Transaction(cursor, now, is_callers=True)
                yield tx
                tx.end()
                cursor.execute(_RELEASE)
            except BaseException:
                _undo(cursor)
                raise
            finally:
                cursor.close()

    def _sqlite(self, driver: sqlite3.Connection) -> Any:
        cursor = driver.cursor()
        cursor.row_factory = None  # whatever the caller has rows made into
        _, _, path = cursor.execute("PRAGMA database_list").fetchone()  # the main one comes first
        file, ours = os.fsdecode(path or ""), self._database.url.database or ""
        if not file or not Path(file).samefile(ours):
            _refuse(f"it leads to {file or 'a database in memory'}, the store is {ours}")
        if not driver.in_transaction:
            if driver.isolation_level is None or getattr(driver, "autocommit", -1) is True:
                _refuse("it is in autocommit mode: begin a transaction first")
            driver.execute("BEGIN IMMEDIATE")
        cursor.execute(_SAVEPOINT)
        return cursor

    def _postgresql(self, driver: Any) -> Any:
        if driver.closed:
            _refuse("it is closed")
        status = driver.info.transaction_status
        if status == _IN_ERROR:
            _refuse("its transaction has failed already: roll it back first")
        if driver.autocommit and status == _IDLE:
            _refuse("it is in autocommit mode: begin a transaction first")
        encoding = driver.info.parameter_status("client_encoding")
        if encoding != "UTF8":
            _refuse(f"its client_encoding is {encoding}, not UTF8")
        cursor = _plain_cursor(driver)
        try:
            cursor.execute(_SAVEPOINT)
            cursor.execute(_IDENTITY)
            identity = cursor.fetchone()
            if identity != self._identity:
                self._identity = self._read_identity()  # the server may have been restarted
            if identity != self._identity:
                _refuse(
                    "it leads to another database, or its search_path to other tables, than "
                    f"{self._database.address}"
                )
        except BaseException:
            _undo(cursor)
            cursor.close()
            raise
        return cursor

    def _read_identity(self) -> Sequence[str]:
        with self._database.read() as connection:
            return tuple(connection.exec_driver_sql(_IDENTITY).one())


def _driver(connection: object) -> Any:
    """The driver's connection. SQLAlchemy is told that a transaction has begun: else its commit would do nothing."""
    orm = sys.modules.get("sqlalchemy.orm")
    if orm is not None and isinstance(connection, orm.Session | orm.scoped_session):
        connection = connection.connection()
    if isinstance(connection, sa.Connection):
        if connection.closed:
            _refuse("it is closed")
        if not connection.in_transaction():
            connection.begin()
        connection = connection.connection.driver_connection
    elif isinstance(connection, sa.PoolProxiedConnection):
        connection = connection.driver_connection
    if not isinstance(connection, _drivers()):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        _refuse(
            f"a {kind} cannot be joined; give a Connection or Session of SQLAlchemy, "
            "or a connection of psycopg2, psycopg or sqlite3"
        )
    return connection


def _drivers() -> tuple[Any, ...]:
    """The connections of the drivers that can be joined, as far as this program uses them."""
    psycopg2, psycopg = sys.modules.get("psycopg2.extensions"), sys.modules.get("psycopg")
    return (
        sqlite3.Connection,
        *((psycopg2.connection,) if psycopg2 else ()),
        *((psycopg.Connection,) if psycopg else ()),
    )


def _plain_cursor(driver: Any) -> Any:
    """One whose rows are tuples, ids text, and parameters put into the text here, whatever the caller's own does."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(driver, psycopg.Connection):
        from psycopg2 import extensions

        cursor = driver.cursor(cursor_factory=extensions.cursor)
        keep_ids_text(cursor)
        return cursor
    from psycopg import rows
    from psycopg.types import string

    cursor = psycopg.ClientCursor(driver, row_factory=rows.tuple_row)
    cursor.adapters.register_loader("uuid", string.TextLoader)
    return cursor


def _refuse(reason: str) -> NoReturn:
    raise InvalidRequestError(
        f"connection: {reason}", fields=[{"field": "connection", "message": reason}]
    )


def _undo(cursor: Any) -> None:
    """Never raises: the error that is under way says what happened."""
    try:
        for statement in _UNDO:
            cursor.execute(statement)
    except Exception:  # noqa: BLE001 - the transaction is gone, and our rows with it
        return


def _read_now(cursor: Any) -> int:
    cursor.execute(_NOW)
    return int(cursor.fetchone()[0])
