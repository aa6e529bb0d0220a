"""`make run` of a fresh clone serves the sample tasks, twice. (That `make test` works, whoever reads this has seen.)"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.server import ROOT, serving


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `git clone` would bring after a commit of what git knows of: a file that nobody has added is missing here,
    as it would be there. Its .venv is this environment (installing takes a network and a minute) with its own TaskFlow.
    """
    for name in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PYTHON"):
        monkeypatch.delenv(name, raising=False)  # of the `make test` around us
    directory = tmp_path / "clone"
    directory.mkdir()
    for name in tracked():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name, follow_symlinks=False)
    programs = directory / ".venv" / "bin"
    programs.mkdir(parents=True)
    for program in Path(sys.executable).parent.iterdir():
        (programs / program.name).symlink_to(program)
    command = programs / "taskflow"
    command.unlink()
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{directory}/src:$PYTHONPATH" exec {sys.executable} -m taskflow "$@"\n'
    )
    command.chmod(0o755)
    stamp = make(directory, "--eval=show: ; @echo $(RUN_STAMP)", "show").stdout.strip()
    (directory / stamp).touch()
    return directory


def tracked() -> list[str]:
    """Committed or staged, as they are in the working tree; what has been deleted there is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=directory, capture_output=True, text=True, check=True, timeout=60
    )


def test_make_run_serves_the_sample_tasks_and_does_so_again(clone: Path, tmp_path: Path) -> None:
    body = {
        "func_name": "send_email",
        "args": ["ann@example.com"],
        "kwargs": {"subject": "Hi"},
        "priority": 1,
    }
    for _ in range(2):
        with (
            serving(tmp_path, command=("make", "run"), cwd=clone) as server,
            httpx.Client(base_url=server.url, timeout=30) as client,
        ):
            answer = client.post("/api/v1/tasks", json=body)
            assert answer.status_code == 202, answer.text
            task = client.get(answer.headers["Location"], params={"wait": 20}).json()
            assert (task["status"], task["priority"]) == ("completed", 1)
            assert task["result"] == "sent 'Hi' to ann@example.com (0 characters)"
        assert "Installing" not in server.log.read_text()


def test_a_changed_lock_file_means_installing_again(clone: Path) -> None:
    show = ("--eval=show: ; @echo $(RUN_STAMP) $(DEV_STAMP)", "show")
    before = make(clone, *show).stdout
    with (clone / "requirements.lock").open("a") as lock:
        lock.write("another==1.0\n")
    assert make(clone, *show).stdout != before


def test_make_without_a_target_lists_what_there_is(clone: Path) -> None:
    listed = [line.split()[1] for line in make(clone).stdout.splitlines()]
    assert {"run", "cluster", "test", "check", "bench", "lock", "clean", "help"} <= set(listed)


def test_a_machine_without_a_usable_python_is_told_what_to_install(clone: Path) -> None:
    shutil.rmtree(clone / ".venv" / "bin")
    done = subprocess.run(
        ["make", "PYTHON=", "run"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "apt-get install python3 python3-venv" in done.stderr
