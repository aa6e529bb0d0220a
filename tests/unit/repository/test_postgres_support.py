"""The PostgreSQL that other tests rely on: databases are separate, cheap to clone, and gone with the run."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.support import backends, run
from tests.support.postgres import Postgres
from tests.support.store_pool import StorePool

ROOT = Path(__file__).parents[3]


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_two_databases_share_nothing(postgres_url_factory: Callable[..., str]) -> None:
    one, other = postgres_url_factory(), postgres_url_factory()
    execute(one, "CREATE TABLE here (id int)")
    assert execute(one, "SELECT count(*) FROM here") == [(0,)]
    assert execute(other, "SELECT to_regclass('here')") == [(None,)]


def test_a_template_is_prepared_once_and_cloned_with_its_content(
    postgres_server: Postgres, postgres_url_factory: Callable[..., str]
) -> None:
    calls = []

    def prepare(url: str) -> None:
        calls.append(url)
        execute(url, "CREATE TABLE prepared AS SELECT 7 AS n")

    names = {postgres_server.template(prepare, name="support") for _ in range(2)}
    assert len(names) == 1
    assert len(calls) == 1
    clone = postgres_url_factory(template=names.pop())
    assert execute(clone, "SELECT n FROM prepared") == [(7,)]


OWNER = """
import os, sys
from tests.support import postgres, run
assert run.begin()
print(os.environ[run.DIRECTORY], postgres.server().url, flush=True)
sys.stdin.read()
run.end()
"""


def owner() -> tuple[subprocess.Popen[str], Path, str]:
    hidden = ("PYTEST_XDIST_WORKER", "TASKFLOW_TEST_DATABASE_URL", run.DIRECTORY, run.OWNER)
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    directory, url = process.stdout.readline().split()
    return process, Path(directory), url


def answers(url: str) -> bool:
    try:
        psycopg2.connect(url + "postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def test_the_server_is_gone_when_the_run_ends() -> None:
    process, directory, url = owner()
    assert answers(url)
    process.communicate("")
    assert process.returncode == 0
    assert not answers(url)
    assert not directory.exists()


def test_the_server_is_gone_when_the_run_is_killed() -> None:
    process, directory, url = owner()
    assert answers(url)
    with (directory / "PostgreSQL.server.lock").open("a") as lock:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        fcntl.flock(lock, fcntl.LOCK_EX)  # held until the server has stopped
    assert not answers(url)
    assert not directory.exists()


@pytest.fixture
def pool(postgres_server: Postgres) -> Iterator[StorePool]:
    pool = StorePool(postgres_server, backends.migrated(postgres_server))
    yield pool
    pool.close()


def test_a_store_is_used_again_as_if_it_were_new(pool: StorePool) -> None:
    url = pool.take()
    execute(
        url,
        "INSERT INTO events (tenant_id, task_id, type, at) VALUES ('t', gen_random_uuid(), 'task.submitted', 1);"
        "CREATE OR REPLACE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT 7::bigint $$",
    )
    pool.give_back(url)
    assert pool.take() == url
    assert execute(url, "SELECT count(*) FROM events") == [(0,)]
    [(version,)] = execute(url, "SELECT count(*) FROM taskflow_version")
    [(now,)] = execute(url, "SELECT taskflow_now()")
    assert (version, now != 7) == (1, True)
    execute(
        url,
        "INSERT INTO events (tenant_id, task_id, type, at) VALUES ('t', gen_random_uuid(), 'x', 1)",
    )
    assert execute(url, "SELECT id FROM events") == [(1,)]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tasks ADD COLUMN other int",
        "DROP INDEX ix_outbox_due",
        "CREATE TABLE theirs (id int)",
        "CREATE SCHEMA theirs",
        "UPDATE taskflow_version SET version_num = '9999'",
        "CREATE FUNCTION theirs() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 2', current_database()); END $$",
    ],
)
def test_a_store_that_was_changed_is_not_used_again(pool: StorePool, change: str) -> None:
    url = pool.take()
    execute(url, change)
    pool.give_back(url)
    assert pool.take() != url


def test_a_store_that_somebody_still_uses_is_not_used_again(pool: StorePool) -> None:
    url = pool.take()
    with closing(psycopg2.connect(url)):
        pool.give_back(url)
        assert pool.take() != url
