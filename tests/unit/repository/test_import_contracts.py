"""The import layers hold, and a forbidden import is caught: each contract is broken once, in a copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[3]
PURE = {"orjson", "pydantic", "typing_extensions"}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("core/task.py", "import taskflow.adapters", "only bootstrap names adapters"),
        ("core/task.py", "import taskflow.services", "cli -> api, worker, balancer -> bootstrap"),
        ("core/retry.py", "import sqlalchemy", "core knows no vendor"),
        ("services/__init__.py", "import fastapi", "reach the world through ports only"),
        ("handlers/echo.py", "import httpx", "reach the world through ports only"),
        (
            "services/__init__.py",
            "import taskflow.settings",
            "settings are read where processes start",
        ),
        ("worker/__init__.py", "import taskflow.api", "cli -> api, worker, balancer -> bootstrap"),
        (
            "api/__init__.py",
            "import taskflow.adapters.http.sender",
            "only bootstrap names adapters",
        ),
        (
            "adapters/mail/__init__.py",
            "import taskflow.adapters.http.sender",
            "do not know each other",
        ),
        ("stray.py", "", "cli -> api, worker, balancer -> bootstrap"),
    ],
)
def test_a_forbidden_import_is_caught(
    copy: Path, module: str, statement: str, contract: str
) -> None:
    path = copy / "src" / "taskflow" / module
    path.write_text(f"{path.read_text() if path.exists() else ''}\n{statement}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    assert any(contract in line for line in broken), done.stdout


def test_core_and_ports_need_nothing_but_pydantic_and_orjson() -> None:
    """The contract lists vendors; this one finds those that nobody thought of listing."""
    graph = grimp.build_graph("taskflow", include_external_packages=True, cache_dir=None)
    for layer in ("taskflow.core", "taskflow.ports"):
        for module in graph.find_descendants(layer):
            used = {
                name.partition(".")[0] for name in graph.find_modules_directly_imported_by(module)
            }
            assert used - PURE - {"taskflow"} <= sys.stdlib_module_names, module
