"""TaskFlow's own part of a package: what functions use of ``src/taskflow`` and ``lambdas``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from deployment.packaging.files import python_files

Kind = Literal["worker", "api"]

REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = REPOSITORY / "requirements.lock"

# What only people at a terminal, or processes that listen on a port, use.
_NOWHERE = (
    "taskflow/__main__.py",
    "taskflow/api/server.py",
    "taskflow/balancer",
    "taskflow/cli",
    "taskflow/cluster",
    "taskflow/testing",
)
_API = ("taskflow/api", "taskflow/dashboard", "taskflow/serverless/http.py", "lambdas/api.py")
_OTHERS = (
    "taskflow/serverless/dead_letters.py",
    "taskflow/serverless/maintenance.py",
    "taskflow/serverless/worker.py",
    "lambdas/dead_letters.py",
    "lambdas/maintenance.py",
    "lambdas/worker.py",
    "lambdas/migrate.py",
)
_LEFT_OUT: dict[Kind, tuple[str, ...]] = {"worker": _NOWHERE + _API, "api": _NOWHERE + _OTHERS}

# The same of the distributions that pyproject.toml asks for. boto3: Lambda's runtimes ship it.
_NOT_INSTALLED: dict[Kind, frozenset[str]] = {
    "worker": frozenset(
        {"boto3", "fastapi", "fastapi-offline", "httptools", "mangum", "rich", "typer"}
        | {"uvicorn", "uvloop"}
    ),
    "api": frozenset({"boto3", "httptools", "rich", "typer", "uvicorn", "uvloop"}),
}


def own_files(kind: Kind) -> Iterator[tuple[PurePosixPath, Path]]:
    """Paths in the zip, and where they are."""
    for top in (REPOSITORY / "src" / "taskflow", REPOSITORY / "lambdas"):
        for path in python_files(top):
            name = PurePosixPath(top.name, path.relative_to(top).as_posix())
            if not any(name.is_relative_to(left_out) for left_out in _LEFT_OUT[kind]):
                yield name, path


def own_requirements(kind: Kind) -> list[str]:
    """As pyproject.toml has them; `LOCK` has their versions."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["aws"]]
    return [text for text in wanted if _name(text) not in _NOT_INSTALLED[kind]]


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()
