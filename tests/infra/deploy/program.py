"""Runs deploy.py as its users do: a process, in a directory of theirs, with AWS's own variables."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Done:
    code: int  # minus a signal that killed it
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.output}\n{self.errors}"


class Program:
    """``checkout``: what it is run from. One run at a time; `process_id` is that of the one that goes on."""

    def __init__(
        self, process: subprocess.Popen[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._process = process
        self._environment = environment
        self.directory = directory
        self.process_id = 0

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
        output, errors = self.directory / "output", self.directory / "errors"
        code = self._run(arguments, environment, os.devnull, str(output), str(errors))
        return Done(code, output.read_text(), errors.read_text())

    def answer(self, answer: str, *arguments: str) -> Done:
        """The same before a terminal, where somebody types this."""
        master, slave = pty.openpty()
        shown: list[bytes] = []

        def read() -> None:
            with suppress(OSError):  # nobody has the other end any more
                while piece := os.read(master, 65_536):
                    shown.append(piece)

        terminal, errors = os.ttyname(slave), self.directory / "errors"
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        os.write(master, f"{answer}\n".encode())
        code = self._run(arguments, None, terminal, terminal, str(errors))
        os.close(slave)
        reader.join()
        os.close(master)
        return Done(code, _STYLE.sub("", b"".join(shown).decode()), errors.read_text())

    def _run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None,
        input_: str,
        output: str,
        errors: str,
    ) -> int:
        request = {
            "arguments": arguments,
            "environment": {**self._environment, **(environment or {})},
            "directory": str(self.directory),
            "input": input_,
            "output": output,
            "errors": errors,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        self.process_id = int(self._process.stdout.readline())
        code = int(self._process.stdout.readline())
        self.process_id = 0
        return code

    def good(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
        """The same; it has to succeed."""
        done = self.run(*arguments, environment=environment)
        assert done.code == 0, done
        return done


def checkout(directory: Path, templates: Mapping[str, Mapping[str, Any]]) -> Path:
    """This repository's deploy.py with templates of the test's own: the code itself is linked, not copied."""
    directory.mkdir()
    for name in ("deployment", "cdk"):
        (directory / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "deploy.py", directory)
    (directory / "cloudformation").mkdir()
    for name, template in templates.items():
        write_template(directory, name, template)
    return directory


def write_template(checkout: Path, name: str, template: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(template), sort_keys=False, width=4096)
    (checkout / "cloudformation" / name).write_text(text)


@contextmanager
def program(source: Path, directory: Path, environment: Mapping[str, str]) -> Iterator[Program]:
    """``source``: a checkout; ``directory``: where its user works."""
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "COLUMNS": "120",
        **environment,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.infra.deploy.forking"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{source}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Program(process, directory, variables)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
