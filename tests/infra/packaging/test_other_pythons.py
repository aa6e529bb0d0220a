"""Packages for Lambda's other Python versions, with those of them that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployment.packaging import build
from deployment.packaging.runtimes import PYTHON_VERSIONS, Architecture, platform_of
from tests.infra.packaging.test_package import AS_ON_AWS
from tests.support.packages import PROJECT, PYTHON, TASKS


def found(version: str) -> str | None:
    """The interpreter; a shim of a version that is not there does not run."""
    for name in (
        f"python{version}",
        *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")),
    ):
        path = shutil.which(name)
        if (
            path
            and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return path
    return None


OTHERS = [(version, found(version)) for version in PYTHON_VERSIONS if version != PYTHON]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("version", "python"), [(version, python) for version, python in OTHERS if python]
)
def test_the_worker_is_compiled_for_it_and_imports_there(
    version: str, python: str, tmp_path: Path, in_lambda: Callable[..., Any]
) -> None:
    built = build(
        "worker",
        root=PROJECT,
        task_modules=TASKS,
        requirements=None,
        python_version=version,
        out=tmp_path,
        interpreter=Path(python),
    )
    package = tmp_path / "package"
    shutil.unpack_archive(built.path, package)
    shipped = {str(path.relative_to(package)) for path in package.rglob("*.pyc")}
    code = """
import json
from lambdas.worker import handler
print(json.dumps([m.__cached__ for m in list(sys.modules.values()) if getattr(m, "__cached__", None)]))
"""
    used = [Path(path) for path in in_lambda(package, code, python=python, **AS_ON_AWS)]
    ours = {str(path.relative_to(package)) for path in used if path.is_relative_to(package)}
    assert len(ours) > 300
    assert ours <= shipped  # nothing had to be compiled
    assert {path.split(".")[-2] for path in ours} == {f"cpython-{version.replace('.', '')}"}


@pytest.mark.parametrize(
    ("version", "architecture", "platform"),
    [
        ("3.11", "x86_64", "x86_64-manylinux_2_17"),
        ("3.13", "x86_64", "x86_64-manylinux_2_34"),
        ("3.14", "arm64", "aarch64-manylinux_2_34"),
    ],
)
def test_wheels_are_those_that_amazon_linux_runs(
    version: str, architecture: Architecture, platform: str
) -> None:
    assert platform_of(version, architecture) == platform
