"""What `taskflow cluster` says when it cannot even begin: one sentence, and nothing has been started."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import pytest

from tests.integration.cli.conftest import Cli
from tests.support.postgres import Postgres


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PostgreSQL at this address: what gets past its mistake fails there."""
    monkeypatch.setenv("TASKFLOW_TEST_DATABASE_URL", "postgresql://ann:geheim@127.0.0.1:1/any")


def test_a_home_that_cannot_be_made(cli: Cli) -> None:
    (cli.directory / "file").touch()
    home = cli.directory / "file" / "home"
    said = cli.fails("cluster", "--port=0", f"--home={home}", code=2)
    assert f"{home}/cluster cannot be written to: Not a directory" in said
    assert "--home" in said


@pytest.mark.parametrize("port", [0, 18001])
def test_a_host_that_is_not_this_machine_s(cli: Cli, port: int) -> None:
    said = cli.fails("cluster", "--host=192.0.2.1", f"--port={port}", code=1)
    assert "cannot listen on 192.0.2.1" in said
    assert "choose another host: an address of this machine" in said


@pytest.mark.parametrize(
    "url", ["nonsense", "host=localhost password=geheim", "mysql://x:geheim@h"]
)
def test_what_is_no_address_of_a_server(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TASKFLOW_TEST_DATABASE_URL", url)
    said = cli.fails("cluster", "--port=0", code=2)
    assert "TASKFLOW_TEST_DATABASE_URL is not the URL of a PostgreSQL server" in said
    assert "geheim" not in said


def test_tasks_that_cannot_be_imported(cli: Cli) -> None:
    said = cli.fails("cluster", "--port=0", "--tasks=no_such_module", code=2)
    assert "TASKFLOW_TASKS: cannot import 'no_such_module'" in said
    assert not (cli.directory / ".taskflow").exists()


def test_a_server_that_does_not_answer_is_named_by_its_variable(cli: Cli) -> None:
    said = cli.fails("cluster", "--port=0", code=1)
    assert "TASKFLOW_TEST_DATABASE_URL" in said
    assert "port 1 failed: Connection refused" in said
    assert "geheim" not in said


def test_a_server_that_does_not_allow_it_is_named_by_its_variable(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, postgres_server: Postgres
) -> None:
    role = f"poor_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'geheim'")
    parts = urlsplit(postgres_server.of("postgres"))
    where = parts.netloc.rpartition("@")[2]
    url = parts._replace(netloc=f"{role}:geheim@{where}").geturl()
    monkeypatch.setenv("TASKFLOW_TEST_DATABASE_URL", url)
    try:
        said = cli.fails("cluster", "--port=0", code=1)
    finally:
        postgres_server.execute(f"DROP ROLE {role}")
    assert "TASKFLOW_TEST_DATABASE_URL" in said
    assert "permission denied to create database" in said
    assert "geheim" not in said
