"""New SQLite stores of a test process are made from what the migrations made once: a tenth of their time.

PostgreSQL's are cloned (`backends.migrated`). Stores that exist, and those of other processes, are migrated as ever.
"""

from __future__ import annotations

import functools
import sqlite3
import tempfile
from contextlib import closing

import sqlalchemy as sa

from taskflow.adapters.clock.system import SystemClock
from taskflow.adapters.metadata import migrate
from taskflow.adapters.metadata.database import Database

_upgrade = migrate._upgrade


def make_once() -> None:
    """For the rest of the process."""
    migrate._upgrade = _from_what_was_made


def _from_what_was_made(database: Database, connection: sa.Connection, before: str | None) -> None:
    if before is not None or not database.is_sqlite:
        _upgrade(database, connection, before)
        return
    connection.rollback()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    for statement in _statements():
        connection.exec_driver_sql(statement)
    connection.commit()


@functools.cache
def _statements() -> list[str]:
    """What makes a new store, as SQLite tells it of one that was migrated."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{directory}/store.db", clock=SystemClock())
        try:
            with database.read(unlimited=True) as connection:
                _upgrade(database, connection, None)
        finally:
            database.close()
        with closing(sqlite3.connect(f"{directory}/store.db")) as made:
            _begin, *statements, _commit = made.iterdump()
    return statements
