"""A process that is killed between submission and commit, or right after the commit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import TaskNotFoundError
from tests.integration.transactional.conftest import Caller

PROGRAM = Path(__file__).with_name("program.py")


@contextmanager
def submitting(url: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, PROGRAM, url, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("kind", ["psycopg2", "sqlite3"], indirect=True)
def test_killed_before_the_commit(app: TaskFlow, caller: Caller, tmp_path: Path) -> None:
    with submitting(caller.url, tmp_path / "home") as process:
        task_id = line_of(process)
        process.kill()
        process.wait()
    assert app.submit("echo_back", 1).result(timeout=30) == 1
    with pytest.raises(TaskNotFoundError):
        app.get(task_id)
    assert caller.orders() == []


@pytest.mark.parametrize("kind", ["psycopg2", "sqlite3"], indirect=True)
def test_killed_after_the_commit(app: TaskFlow, caller: Caller, tmp_path: Path) -> None:
    with submitting(caller.url, tmp_path / "home") as process:
        task_id = line_of(process)
        assert process.stdin is not None
        process.stdin.write("commit\n")
        process.stdin.flush()
        assert line_of(process) == "committed"
        process.kill()
        process.wait()
    assert app.handle(task_id).result(timeout=30) == 7
    assert caller.orders() == [1]
