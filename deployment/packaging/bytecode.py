"""Bytecode beside the sources: half of what a cold start would otherwise cost is compiling."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deployment.packaging.errors import PackagingError
from deployment.packaging.runtimes import TASK_ROOT

# Sets of constants are written in the order of their hashes.
_SAME_EVERYWHERE = {"PYTHONHASHSEED": "0"}


def version_for(interpreter: Path, python_version: str) -> str:
    """Its full version. Lambda's Python reads only bytecode of its own minor version: raises PackagingError when the
    interpreter is of another one."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.version)"
    try:
        found, _, full = _run([interpreter, "-c", code]).stdout.strip().partition(" ")
    except OSError as exc:
        raise PackagingError(
            f"{interpreter} cannot be run: {exc.strerror}.", "Name another Python interpreter."
        ) from exc
    if found != python_version:
        raise PackagingError(
            f"{interpreter} is Python {found or '?'} and cannot compile for Lambda's Python {python_version}.",
            f"Run deploy.py with Python {python_version}, or choose the runtime of Python {found}.",
        )
    return full


def compile_all(stage: Path, interpreter: Path, ours: Sequence[str]) -> None:
    """Everything below ``stage``, in place. ``ours``: top-level names whose files must compile (distributions carry
    some that no Python compiles). Raises PackagingError.

    Unchecked: Lambda's copy never changes, so nobody needs to look at the sources' times.
    """
    done = _compile(stage, interpreter, sorted(ours))
    if done.returncode:
        said = " ".join(done.stdout.replace("*** ", "").split())
        raise PackagingError(
            f"There is code that Python cannot compile: {said}.", "Correct it, then deploy again."
        )
    _compile(stage, interpreter, sorted(p.name for p in stage.iterdir() if p.name not in ours))


def _compile(
    stage: Path, interpreter: Path, names: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """One after the other in one process: what it has met before decides some bytes of what it writes next."""
    options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", TASK_ROOT]
    paths = [str(stage / name) for name in names] or [
        os.devnull
    ]  # none would mean all of `sys.path`
    return _run([interpreter, "-s", "-P", "-m", "compileall", *options, *paths])


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    return subprocess.run(  # noqa: S603 - a Python, and paths of ours
        command, env=environment | _SAME_EVERYWHERE, capture_output=True, text=True, check=False
    )
