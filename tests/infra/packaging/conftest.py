"""The packages of this run, and a Python that has nothing but what Lambda's has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import packages, run

# Lambda's Python runtimes ship boto3 and what it needs, behind the function's own code.
_SHIPPED = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")


@pytest.fixture(scope="session")
def worker() -> Path:
    """The unpacked package of the worker function."""
    return packages.unpacked("worker")


@pytest.fixture(scope="session")
def api() -> Path:
    """The unpacked package of the API function."""
    return packages.unpacked("api")


@pytest.fixture(scope="session")
def shipped() -> Path:
    """What the runtime brings."""
    import importlib.util

    directory = run.directory() / "runtime"
    with run.locked(run.directory() / "runtime.lock"):
        if not directory.exists():
            partial = run.directory() / "runtime.partial"
            partial.mkdir()
            for name in _SHIPPED:
                found = importlib.util.find_spec(name)
                assert found is not None
                assert found.origin is not None
                path = Path(found.origin)
                path = path.parent if path.name == "__init__.py" else path
                (partial / path.name).symlink_to(path)
            partial.rename(directory)
    return directory


@pytest.fixture
def in_lambda(shipped: Path) -> Callable[..., Any]:
    """``in_lambda(package, code)``: what ``code`` prints as JSON, run as Lambda's Python would."""

    def call(package: Path, code: str, *, python: str = sys.executable, **environment: str) -> Any:
        start = (
            f"import sys; sys.path[:0] = [{str(package)!r}]; sys.path.append({str(shipped)!r})\n"
        )
        done = subprocess.run(
            [python, "-I", "-S", "-c", start + code],
            env=environment,
            cwd=package,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return call
