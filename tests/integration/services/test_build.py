"""The factory: what cannot be opened is said plainly, and nothing stays open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskflow.bootstrap import build
from taskflow.core.errors import StoreReadOnlyError, StoreVersionError, TaskFlowError
from taskflow.settings import load
from tests.integration.services.conftest import Engines, noop
from tests.support.database_time import about_sqlite


def open_files(directory: Path) -> list[str]:
    targets = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return [t for p in targets if p.exists() and str(directory) in (t := os.readlink(p))]


@about_sqlite
def test_closing_lets_go_of_every_file(engines: Engines) -> None:
    engine = engines()
    engine.submit(engine.handler(noop), "x" * 70_000)
    engine.work()
    assert open_files(engine.home)
    engine.runtime.close()
    assert open_files(engine.home) == []


def test_a_home_that_cannot_be_made_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreReadOnlyError, match="file"):
        build(load(home=tmp_path / "file" / "home"))
    assert open_files(tmp_path) == []


def test_what_fails_after_the_store_was_opened_closes_it_again(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("in the way")
    with pytest.raises(TaskFlowError, match="workers"):
        build(load(home=tmp_path), with_worker=True)
    assert open_files(tmp_path) == []


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "taskflow.db"
    file.write_bytes(b"something else, and rather long: " * 100)
    with pytest.raises((TaskFlowError, StoreVersionError)):
        build(load(home=tmp_path))
    assert file.read_bytes().startswith(b"something else")
    assert open_files(tmp_path) == []
