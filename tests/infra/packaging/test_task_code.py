"""Which of the user's files go into a package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployment.packaging import PackagingError
from deployment.packaging.task_code import TaskCode

Make = Callable[[dict[str, str]], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return made


def names(root: Path, *modules: str) -> list[str]:
    return [str(name) for name, _ in TaskCode(modules, root).files()]


def test_a_package_comes_whole_but_for_what_is_hidden_or_compiled(make: Make) -> None:
    root = make(
        {
            "shop/tasks.py": "",
            "shop/deep/texts.json": "{}",
            "shop/.env": "SECRET=1",
            "shop/.git/config": "",
            "shop/__pycache__/tasks.cpython-311.pyc": "",
            "elsewhere.py": "",
        }
    )
    assert names(root, "shop.tasks") == ["shop/deep/texts.json", "shop/tasks.py"]


def test_what_it_imports_from_beside_it_comes_too_and_so_on(make: Make) -> None:
    root = make(
        {
            "chores.py": "import json, helpers.dates\nfrom taskflow import task\n",
            "helpers/dates.py": "def today():\n    from clocks import now\n    return now()\n",
            "clocks.py": "import chores\n",
            "json.py": "raise SystemExit('the standard library is meant')",
            "other.py": "",
        }
    )
    assert names(root, "chores") == ["chores.py", "clocks.py", "helpers/dates.py"]


def test_projects_with_a_src_directory(make: Make) -> None:
    root = make({"src/shop/__init__.py": "import rates", "src/rates.py": ""})
    assert names(root, "shop") == ["rates.py", "shop/__init__.py"]


def test_modules_of_taskflow_itself_are_there_already(make: Make) -> None:
    assert names(make({}), "taskflow.handlers.echo") == []


def test_what_is_nowhere_here_must_come_with_the_requirements(make: Make) -> None:
    root = make({"installed/company_tasks/jobs.py": ""})
    code = TaskCode(["company_tasks.jobs", "company_tasks.other"], root)
    assert code.elsewhere == ["company_tasks.jobs", "company_tasks.other"]
    with pytest.raises(PackagingError, match=r"'company_tasks\.other'.*no requirement brings it"):
        code.refuse_missing(root / "installed")
