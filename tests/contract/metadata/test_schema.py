"""The migrations and the tables the program works with are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import HEAD, current, migrate, version_table
from taskflow.adapters.metadata.postgresql import PostgresqlOptions
from taskflow.core.errors import ConfigurationError, StoreVersionError
from taskflow.testing.clock import FakeClock
from tests.support.postgres import Postgres


@pytest.fixture
def database(database_url: str) -> Database:
    return Database(database_url, clock=FakeClock())


def test_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    assert migrate(database) is None
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": version_table(database)}
        )
        assert compare_metadata(context, schema.metadata) == []
    assert migrate(database) == HEAD
    database.close()


def test_what_uses_the_store_imports_the_dialect_of_no_database() -> None:
    program = (
        "import sys, taskflow.adapters.metadata.migrate\n"
        "print(*[n for n in sys.modules if n.startswith('sqlalchemy.dialects.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_store_of_a_newer_program_is_refused_and_left_alone(database: Database) -> None:
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {version_table(database)} SET version_num = '9999'"))
    with pytest.raises(StoreVersionError, match=r"9999.*newer TaskFlow"):
        migrate(database)
    with database.read() as connection:
        stored = sa.text(f"SELECT version_num FROM {version_table(database)}")
        assert connection.scalar(stored) == "9999"
    database.close()


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'theirs.db'}", clock=FakeClock())
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE customers (id INTEGER)"))
    with pytest.raises(StoreVersionError, match="customers"):
        migrate(database)
    database.close()


def test_a_postgresql_database_may_be_shared_with_a_program_that_has_migrations_of_its_own(
    postgres_database: str,
) -> None:
    database = Database(postgres_database, clock=FakeClock())
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE customers (id INTEGER)"))
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('theirs')"))
    assert migrate(database) is None
    assert migrate(database) == HEAD
    with database.read() as connection:
        theirs = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    assert theirs == "theirs"
    database.close()


def test_a_postgresql_database_with_other_tables_of_the_same_name_is_refused(
    postgres_database: str,
) -> None:
    database = Database(postgres_database, clock=FakeClock())
    with database.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE customers (id INTEGER)"))
        connection.execute(sa.text("CREATE TABLE events (id INTEGER)"))
    with pytest.raises(StoreVersionError, match=r"other tables \(events\)"):
        migrate(database)
    database.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_postgresql_database_that_cannot_keep_every_text_is_refused(
    postgres_server: Postgres, encoding: str
) -> None:
    url = postgres_server.create(encoding=encoding)
    database = Database(url, clock=FakeClock())
    try:
        with pytest.raises(ConfigurationError, match=f"encoding {encoding}; TaskFlow needs UTF8"):
            migrate(database)
    finally:
        database.close()
        postgres_server.drop(url)


def test_one_connection_is_enough_to_migrate(postgres_database: str) -> None:
    alone = PostgresqlOptions(pool_size=1, max_overflow=0, pool_timeout_seconds=0.1)
    database = Database(postgres_database, clock=FakeClock(), postgresql=alone)
    assert migrate(database) is None
    assert current(database) == HEAD
    database.close()


def test_many_processes_that_start_at_once_migrate_once(database_url: str, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom taskflow.adapters.metadata.database import Database\n"
        "from taskflow.adapters.metadata.migrate import migrate\nfrom taskflow.testing.clock import FakeClock\n"
        "database = Database(sys.argv[1], clock=FakeClock())\nsys.stdin.readline()\nprint(migrate(database))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert answers == [HEAD, HEAD, HEAD, "None"]


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://u@localhost/db", "mysql is not supported"),
        ("not a url", "not a database URL"),
        ("postgresql://u:secret@localhost:port/db", "not a database URL: the port is not a number"),
        ("postgresql://u@one:99x,two:1/db", "not a database URL: the port is not a number"),
        ("postgresql://127.0.0.1:1/db?bogus=1", 'TASKFLOW_DATABASE_URL: .*option "bogus"'),
        ("sqlite://", "in-memory"),
    ],
)
def test_an_impossible_database_url_is_refused_in_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        migrate(Database(url, clock=FakeClock()))


def test_postgresql_without_its_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskflow.adapters.metadata.postgresql.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"taskflow\[aws\]"):
        Database("postgresql://u@localhost/db", clock=FakeClock())


def test_tables_that_change_have_room_on_their_pages_and_a_vacuum_that_keeps_up(
    postgres_database: str,
) -> None:
    database = Database(postgres_database, clock=FakeClock())
    migrate(database)
    with database.read() as connection:
        rows = connection.execute(
            sa.text("SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL")
        )
        storage = {name: dict(option.split("=") for option in options) for name, options in rows}
    for table in ("tasks", "outbox", "tallies", "workers"):
        assert int(storage[table]["fillfactor"]) <= 80, table
    for table in ("tasks", "outbox", "tallies", "workers", "task_inputs", "task_results", "events"):
        assert float(storage[table]["autovacuum_vacuum_scale_factor"]) <= 0.02, table
    database.close()
