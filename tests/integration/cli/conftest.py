"""A command line in a directory of its own, without a server and with one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from taskflow.cli.program import program

TASKS = '''
import sys
import threading
from pathlib import Path
from taskflow import TaskContext, task

@task
def greet(name: str, zip: str = "", n: int = 1) -> str:
    """Say hello."""
    return f"Hello {name} {zip} {n}".replace("  ", " ")

@task
def boom(reason: str = "bad\\nluck") -> None:
    raise ValueError(reason)

@task
def steps(ctx: TaskContext) -> str:
    ctx.progress(60, "more than half")
    return "done"

@task
def hold(ctx: TaskContext, marker: str) -> str:
    """Runs until the file ``marker`` is there, or it is cancelled."""
    ctx.progress(40, "waiting")
    Path(marker + ".started").touch()
    while not Path(marker).exists() and not ctx.cancelled:
        threading.Event().wait(0.01)
    return "released"
'''
PATIENCE_SECONDS = 120.0


@dataclass
class Cli:
    """Runs commands in this process, in ``directory``."""

    directory: Path
    url: str | None = None

    def run(self, *arguments: str) -> Result:
        given = [*arguments, "--url", self.url] if self.url else list(arguments)
        return CliRunner().invoke(program, given, prog_name="taskflow", catch_exceptions=False)

    def ok(self, *arguments: str) -> str:
        """The output of a command that must succeed."""
        result = self.run(*arguments)
        assert result.exit_code == 0, (result.stdout, result.stderr)
        return str(result.stdout)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def fails(self, *arguments: str, code: int) -> str:
        """What a command says on stderr that must fail: one line, and nothing on stdout."""
        result = self.run(*arguments)
        assert result.exit_code == code, (result.stdout, result.stderr)
        assert result.stdout == ""
        assert result.stderr.startswith("taskflow: ")
        assert result.stderr.count("\n") == 1
        return str(result.stderr)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a module of tasks; nothing listens on its port."""
    (tmp_path / "cli_tasks.py").write_text(TASKS)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TASKFLOW_PORT", str(unused.getsockname()[1]))
    monkeypatch.setenv("TASKFLOW_TASKS", "cli_tasks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("cli_tasks", None)


@pytest.fixture
def cli(directory: Path) -> Cli:
    return Cli(directory)


@dataclass
class Dev:
    """A running `taskflow dev`. Its log goes to a file: a pipe that nobody reads would fill up and block it."""

    process: subprocess.Popen[str]
    url: str
    greeting: str
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def until_logged(self, event: str) -> None:
        until(lambda: event in self.log)

    def finish(self) -> int:
        """The exit code, once it has ended."""
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def until(condition: Callable[[], bool]) -> None:
    """Looks often: what happens in another process wakes nobody here."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def start_dev(directory: Path, *options: str) -> Dev:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TASKFLOW_")}
    log_file = directory / f"dev-{len(list(directory.glob('dev-*')))}.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskflow", "dev", "--port=0", "--tasks=cli_tasks", *options],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[0], log_file.read_text()
    return Dev(process, lines[0].split()[3], "".join(lines), log_file)


@pytest.fixture
def dev(directory: Path) -> Iterator[Dev]:
    dev = start_dev(directory)
    yield dev
    dev.kill()
