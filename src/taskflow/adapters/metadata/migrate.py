"""Brings the store to this program's schema: Alembic, run in-process, at most once at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from taskflow.adapters.metadata.database import Database
from taskflow.core.errors import StoreReadOnlyError, StoreVersionError

HEAD = "0001"
_MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x7461736B666C6F77  # "taskflow"


def current(database: Database) -> str | None:
    """The store's revision; None when it is empty. Raises StoreVersionError when it is not TaskFlow's."""
    with database.read() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if "alembic_version" in tables:
            revision: str | None = connection.scalar(
                sa.text("SELECT version_num FROM alembic_version")
            )
            return revision
    if tables:
        raise StoreVersionError(
            f"{database.url.render_as_string()} holds other tables "
            f"({', '.join(sorted(tables)[:3])}, …), not a TaskFlow store"
        )
    return None


def migrate(database: Database) -> str | None:
    """Create or upgrade the schema. Returns the revision there was before, None if the store was empty.

    Raises StoreVersionError when the store was written by a newer TaskFlow.
    """
    with _one_at_a_time(database):
        before = current(database)
        if before == HEAD:
            return before
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
        with database.read(unlimited=True) as connection:
            config.attributes["connection"] = connection
            if database.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            command.upgrade(config, "head")
            connection.commit()
        return before


@contextmanager
def _one_at_a_time(database: Database) -> Iterator[None]:
    if not database.is_sqlite:
        with database.read(unlimited=True) as connection, connection.begin():
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
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
