"""A PostgreSQL with its default settings, durable, for one run; a database of its own for every measurement."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from taskflow.cluster.postgres import create_database, drop_database, start


@contextmanager
def server() -> Iterator[str]:
    """URL without a database name. fsync and synchronous_commit are on, as they come."""
    with tempfile.TemporaryDirectory(prefix="taskflow-benchmark-") as name:
        process, url = start(Path(name))
        try:
            yield url
        finally:
            process.terminate()
            process.wait()


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """URL of a new, empty one, dropped afterwards. What came before is on disk when it begins."""
    name = f"benchmark_{uuid.uuid4().hex[:12]}"
    url = create_database(server_url, name)
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CHECKPOINT")
    try:
        yield url
    finally:
        drop_database(server_url, name)


def count(url: str, statement: str) -> int:
    """The one number that ``statement`` selects."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row: Any = cursor.fetchone()
        return int(row[0])
