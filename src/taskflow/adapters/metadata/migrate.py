"""Brings the store to this program's schema: made at once or by Alembic, in-process, at most once at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from taskflow.adapters.metadata import new_store, schema
from taskflow.adapters.metadata.database import Database
from taskflow.core.errors import ConfigurationError, StoreReadOnlyError, StoreVersionError

HEAD = "0004"
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x7461736B666C6F77  # "taskflow"


def version_table(database: Database) -> str:
    """Where the revision is. A PostgreSQL database may be shared with a program that uses Alembic itself."""
    return "alembic_version" if database.is_sqlite else "taskflow_version"


def current(database: Database) -> str | None:
    """The store's revision; None when it is empty. Raises StoreVersionError when it is not TaskFlow's, and
    ConfigurationError when its database cannot be one."""
    with database.read(unlimited=True) as connection:
        return _revision(database, connection)


def migrate(database: Database) -> str | None:
    """Create or upgrade the schema, on one connection. Returns the revision there was before, None if there was none.

    Raises StoreVersionError when the store was written by a newer TaskFlow.
    """
    if not database.is_sqlite and current(database) == HEAD:
        return HEAD  # as nearly always: nobody waits for anybody
    with _one_at_a_time(database), database.read(unlimited=True) as connection:
        if not database.is_sqlite:
            # Of the transaction, which holds the migration, too: released by its end, whatever happens.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        before = _revision(database, connection)
        if before == HEAD:
            return before
        if database.is_sqlite:
            connection.rollback()  # the snapshot of the look
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if database.is_sqlite and before is None:
            new_store.create(connection, HEAD)
        else:
            upgrade(database, connection, before)
        connection.commit()
        return before


def _revision(database: Database, connection: sa.Connection) -> str | None:
    if not database.is_sqlite:
        encoding = connection.scalar(sa.text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise ConfigurationError(
                f"{database.address} has the encoding {encoding}; TaskFlow needs UTF8, or some texts could not be kept"
            )
    tables = set(sa.inspect(connection).get_table_names())
    versions = version_table(database)
    if versions in tables:
        revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {versions}"))  # noqa: S608
        return revision
    # A file is one program's; a PostgreSQL database may well be shared, as long as no name is wanted twice.
    foreign = tables if database.is_sqlite else tables & schema.metadata.tables.keys()
    if foreign:
        raise StoreVersionError(
            f"{database.address} holds other tables "
            f"({', '.join(sorted(foreign)[:3])}{', …' if len(foreign) > 3 else ''}), not a TaskFlow store"
        )
    return None


def upgrade(database: Database, connection: sa.Connection, before: str | None) -> None:
    """By Alembic, from ``before`` (None: nothing is there), in the transaction that is open."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if before is not None and before not in known:
        raise StoreVersionError(
            f"the store has schema {before}, this program knows {HEAD} at most: it was written by a newer TaskFlow"
        )
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table(database)
    command.upgrade(config, "head")


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    """On SQLite; on PostgreSQL a lock in the transaction does it."""
    if not database.is_sqlite:
        yield
        return
    file = database.url.database or ""
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        lock = Path(f"{file}.migrate").open("w")  # noqa: SIM115 - closed below
    except OSError as exc:
        raise StoreReadOnlyError(f"the store cannot be created at {file}: {exc.strerror}") from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
