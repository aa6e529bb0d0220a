"""A type checker knows what `submit` of a decorated function takes: without the context, the rest as declared."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from subprocess import run

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
from taskflow import TaskContext, register_task_handler, task

@task
def plain(x: int) -> str: return ""

@task("named", timeout=3)
def with_context(ctx: TaskContext, x: int = 1) -> str: return ""

@register_task_handler("third")
def whole(payload: dict[str, int]) -> int: return 1

@task()
async def later(x: str) -> int: return 1

plain.submit(1)
plain(1).upper()
with_context.submit()
with_context.submit(x=2)
with_context.options(delay=5).submit(2)
whole.submit({"a": 1})
later.submit("a")
plain.submit("a")  # wrong
plain.submit()  # wrong
plain(None)  # wrong
with_context.submit(x="a")  # wrong
with_context.options(delay=5).submit(y=1)  # wrong
later.submit(1)  # wrong
"""


@pytest.mark.slow
def test_mypy_accepts_what_works_and_finds_what_does_not(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            ROOT / "pyproject.toml",
            program,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line) for line in re.findall(r"program\.py:(\d+): error", done.stdout)}
    wrong = {n for n, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert found == wrong, done.stdout
