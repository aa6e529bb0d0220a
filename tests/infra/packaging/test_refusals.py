"""What cannot be packaged is refused with a sentence and a next step, and nothing is left behind."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deployment.errors import DeployError
from deployment.packaging import PackagingError, build
from deployment.packaging.package import MOST_BYTES, pack
from tests.support.packages import PYTHON


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "chores.py").write_text("from taskflow import task\n\n@task\ndef chore(): ...\n")
    return root


def refused(project: Path, **arguments: Any) -> PackagingError:
    out = project / "out"
    given: dict[str, Any] = {
        "task_modules": ["chores"],
        "requirements": None,
        "python_version": PYTHON,
    }
    with pytest.raises(PackagingError) as caught:
        build("worker", root=project, out=out, **given | arguments)
    assert list(out.glob("*.zip")) == []
    assert isinstance(caught.value, DeployError)
    assert caught.value.next_step.endswith((".", "uv"))
    return caught.value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shop.tasks", "there is no"),
        ("chores.nothing", "chores.py has no such module"),
        ("./chores.py", "not the name of a module"),
    ],
)
def test_task_modules_that_are_not_there(project: Path, name: str, words: str) -> None:
    error = refused(project, task_modules=["chores", name])
    assert repr(name) in error.message
    assert words in error.message


def test_code_that_python_cannot_compile(project: Path) -> None:
    (project / "chores.py").write_text("def chore(:\n")
    error = refused(project)
    assert "/var/task/chores.py" in error.message or "chores.py" in error.message
    assert "SyntaxError" in error.message


def test_a_module_that_would_hide_a_dependency(project: Path) -> None:
    (project / "structlog.py").write_text("")
    assert (
        "structlog.py has the name of a dependency"
        in refused(project, task_modules=["structlog"]).message
    )


def test_requirements_that_contradict_the_pinned_versions(project: Path) -> None:
    wanted = project / "requirements.txt"
    wanted.write_text("sqlalchemy<2\n")
    error = refused(project, requirements=wanted)
    assert "sqlalchemy<2" in error.message
    assert "requirements.txt" in error.message
    assert "\n" not in error.message


def test_requirements_that_are_not_there(project: Path) -> None:
    assert "no requirements file" in refused(project, requirements=project / "none.txt").message


def test_a_dependency_that_has_no_wheel(project: Path) -> None:
    name = "taskflow_test_source_only"
    source = project / "sources" / f"{name}-1.0.tar.gz"
    source.parent.mkdir()
    with tarfile.open(source, "w:gz") as archive:
        for file, text in {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": f'[project]\nname = "{name}"\nversion = "1.0"\n',
        }.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{file}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    wanted = project / "requirements.txt"
    wanted.write_text(f"--find-links {source.parent}\n{name}==1.0\n")
    error = refused(project, requirements=wanted)
    assert "there is no wheel of taskflow-test-source-only" in error.message
    assert "nothing is built from source" in error.message


def test_an_index_that_cannot_be_reached(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(project / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    error = refused(project)
    assert "index cannot be reached" in error.message
    assert "secret" not in str(error)


def test_a_python_that_lambda_does_not_run(project: Path) -> None:
    error = refused(project, python_version="3.15")
    assert "no runtime for Python 3.15" in error.message
    assert "3.11, 3.12, 3.13, 3.14" in error.next_step


def test_a_python_that_compiles_for_another(project: Path) -> None:
    other = "3.12" if PYTHON != "3.12" else "3.13"
    error = refused(project, python_version=other)
    assert f"is Python {PYTHON} and cannot compile for Lambda's Python {other}" in error.message
    assert "cannot be run" in refused(project, interpreter=project / "python").message


def test_a_package_over_the_limit_names_its_largest_parts(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    (stage / "maps").mkdir(parents=True)
    (stage / "maps" / "world.bin").write_bytes(os.urandom(MOST_BYTES + 1))
    (stage / "chores.py").write_text("")
    with pytest.raises(PackagingError) as caught:
        pack("worker", stage, tmp_path)
    assert "50.0 MB, over the limit of 50.0 MB" in caught.value.message
    assert "the largest in it: maps (50.0 MB), chores.py (0.0 MB)" in caught.value.message


def test_a_linked_directory_in_a_package_of_tasks(project: Path) -> None:
    (project / "shop").mkdir()
    (project / "shop" / "tasks.py").write_text("")
    (project / "shop" / "data").symlink_to(Path(sys.prefix), target_is_directory=True)
    assert "link to a directory" in refused(project, task_modules=["shop.tasks"]).message
