"""PostgreSQL's time in the hands of a test: TaskFlow asks `taskflow_now()`, which here says what a `FakeClock` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest

from taskflow.testing.clock import FakeClock

# Tests of what PostgreSQL does not have, with the fixture `timed_store`.
about_sqlite = pytest.mark.parametrize("timed_store", ["sqlite"], indirect=True)
# The kernel says who is dead only to processes of one machine, which share a home; elsewhere leases do.
about_file_locks = about_sqlite


@contextmanager
def following(clock: FakeClock, url: str) -> Iterator[None]:
    """The time of the database at ``url``, with TaskFlow's tables, stands still until ``clock`` moves."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        done = False

        def follow() -> None:
            if not done:
                cursor.execute(
                    "CREATE OR REPLACE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE AS $$ "
                    f"SELECT {clock.now_us()}::bigint $$"
                )

        follow()
        clock.on_advance(follow)
        yield
        done = True
