"""`taskflow artifacts`: what a task left, listed and downloaded."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.cli.connection import settings_here
from tests.integration.artifacts import handlers
from tests.integration.cli.conftest import Cli


@pytest.fixture
def task_id(directory: Path) -> str:
    settings = settings_here(home=directory / ".taskflow", tasks=(), num_workers=1)
    with TaskFlow(settings, handlers=handlers.registry) as app:
        handle = app.submit("leave", {"report.csv": "a,b\n"})
        handle.result(timeout=30)
        return handle.id


def test_artifacts_are_listed(cli: Cli, task_id: str) -> None:
    said = cli.ok("artifacts", task_id)
    assert said.splitlines()[0].split() == ["NAME", "BYTES", "TYPE", "ATTEMPT", "WRITTEN"]
    assert said.splitlines()[1].split()[:4] == ["report.csv", "4", "text/csv", "1"]
    [artifact] = cli.json("artifacts", task_id)
    assert (artifact["name"], artifact["size_bytes"]) == ("report.csv", 4)


def test_one_is_downloaded_under_its_name_or_another(cli: Cli, task_id: str) -> None:
    cli.ok("artifacts", task_id, "--download", "report.csv")
    assert (cli.directory / "report.csv").read_text() == "a,b\n"
    cli.ok("artifacts", task_id, "--download", "report.csv", "--output", "mine.csv")
    assert (cli.directory / "mine.csv").read_text() == "a,b\n"
    assert cli.ok("artifacts", task_id, "--download", "report.csv", "-o", "-") == "a,b\n"


def test_what_is_here_is_not_replaced_by_a_name_that_a_handler_chose(
    cli: Cli, task_id: str
) -> None:
    (cli.directory / "report.csv").write_text("precious")
    said = cli.fails("artifacts", task_id, "--download", "report.csv", code=1)
    assert "--output" in said
    assert (cli.directory / "report.csv").read_text() == "precious"


def test_a_disk_that_is_full_leaves_no_half_of_it(
    cli: Cli, task_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_it_is_full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    download = ("artifacts", task_id, "--download", "report.csv")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", until_it_is_full)
        said = cli.fails(*download, code=1)
    assert "cannot write report.csv: No space left on device" in said
    cli.ok(*download)
    assert (cli.directory / "report.csv").read_text() == "a,b\n"


def test_what_cannot_be_done_is_said(cli: Cli, task_id: str) -> None:
    assert "other.csv" in cli.fails("artifacts", task_id, "--download", "other.csv", code=1)
    unknown = task_id.replace("-", "0")
    assert "no task" in cli.fails("artifacts", unknown, code=1)
    (cli.directory / "file").touch()
    for output in ("no/where", "file/where"):
        download = ("artifacts", task_id, "--download", "report.csv", "-o", output)
        assert "cannot write" in cli.fails(*download, code=1)
    assert cli.run("artifacts", task_id, "-o", "x").exit_code == 2
