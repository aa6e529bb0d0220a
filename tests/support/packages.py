"""The packages of a test run: each is built once, whichever process asks first."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from deployment.packaging import Kind, Package, build
from tests.support import run

PROJECT = Path(__file__).parents[2] / "tests" / "infra" / "end_to_end" / "project"
TASKS = ["shop.tasks"]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def package(kind: Kind, *, root: Path = PROJECT) -> Package:
    """With the tasks of `PROJECT`, or of a copy of it."""
    with run.locked(run.directory() / "packages.lock"):
        return build(
            kind,
            root=root,
            task_modules=TASKS,
            requirements=None,
            python_version=PYTHON,
            out=run.directory() / "packages",
        )


def unpacked(kind: Kind) -> Path:
    """A directory with its files: to be read, not to be changed."""
    built = package(kind)
    directory = built.path.with_suffix("")
    with run.locked(run.directory() / "packages.lock"):
        if not directory.exists():
            partial = directory.with_suffix(".partial")
            with zipfile.ZipFile(built.path) as archive:
                archive.extractall(partial)
            partial.rename(directory)
    return directory
