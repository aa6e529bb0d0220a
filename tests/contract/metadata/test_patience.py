"""What outcomes and claims cost others on SQLite, which has one writer; and that outcomes are durable all the same."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from taskflow.adapters.metadata import sqlite
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.migrate import migrate
from taskflow.core.ids import UUID7
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskKey
from taskflow.testing.clock import FakeClock
from tests.contract.metadata.conftest import MetadataHarness, outcome
from tests.support.waiting import wait_for


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[MetadataHarness]:
    clock = FakeClock()
    database = Database(f"sqlite:///{tmp_path / 'taskflow.db'}", clock=clock)
    migrate(database)
    yield MetadataHarness(database, clock, UUID7(lambda: clock.now_us() // 1_000))
    database.close()


def status_in(directory: Path, key: TaskKey) -> str:
    with closing(sqlite3.connect(directory / "taskflow.db")) as connection:
        [status] = connection.execute(
            "SELECT status FROM tasks WHERE id = ?", (key.task_id,)
        ).fetchone()
    return str(status)


def test_an_outcome_is_on_disk_when_it_has_been_written(
    harness: MetadataHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut keeps what was there when the log was last synced."""
    after_the_power_cut = tmp_path / "after"
    after_the_power_cut.mkdir()
    synced: list[str] = []

    def sync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        os.fdatasync(descriptor)
        for name in ("taskflow.db", "taskflow.db-wal"):
            shutil.copy(tmp_path / name, after_the_power_cut)

    monkeypatch.setattr(sqlite, "_sync", sync)
    key = harness.accepted()
    harness.run(key, TaskStatus.COMPLETED)
    assert synced == [str(tmp_path / "taskflow.db-wal")]
    assert status_in(after_the_power_cut, key) == "completed"


def test_a_log_that_does_not_reach_the_disk_is_tried_again_and_nothing_is_written_twice(
    harness: MetadataHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [OSError(5, "Input/output error")] * 2

    def sync(descriptor: int) -> None:
        if faults:
            raise faults.pop()
        os.fdatasync(descriptor)

    monkeypatch.setattr(sqlite, "_sync", sync)
    key = harness.accepted()
    result = harness.run(key, TaskStatus.COMPLETED)
    assert faults == []
    assert (result.fenced, result.ended) == ([], [key])
    assert harness.history(key) == ["submitted", "started", "completed"]


def test_nobody_else_waits_for_the_disk_of_an_outcome(
    harness: MetadataHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_disk, go_on = threading.Event(), threading.Event()

    def sync(descriptor: int) -> None:
        at_the_disk.set()
        assert go_on.wait(20)
        os.fdatasync(descriptor)

    monkeypatch.setattr(sqlite, "_sync", sync)
    [task] = harness.claim(harness.accepted())
    finishing = threading.Thread(
        target=lambda: harness.finish(outcome(task, TaskStatus.COMPLETED)), daemon=True
    )
    finishing.start()
    assert at_the_disk.wait(20)
    key = harness.accepted()
    assert harness.status(key) == "pending"
    assert finishing.is_alive()
    go_on.set()
    finishing.join(20)
    assert not finishing.is_alive()


class Watched:
    """A lock that knows how many are at it."""

    def __init__(self) -> None:
        self.here = 0
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.here += 1
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.here -= 1
        self._lock.release()


def test_only_one_of_those_who_keep_nobody_waiting_is_at_the_writer(
    harness: MetadataHarness,
) -> None:
    connections: Any = harness.database.connections
    lock, patience = Watched(), Watched()
    connections._write_lock, connections._patience = lock, patience
    done: list[str] = []

    def write(name: str, *, patient: bool) -> None:
        with harness.database.write(durable=False, patient=patient):
            done.append(name)

    waiting = [
        threading.Thread(target=write, args=[name], kwargs={"patient": name != "submission"})
        for name in ("outcomes", "claims", "submission")
    ]
    with harness.database.write(durable=False, patient=True):
        for thread in waiting:
            thread.start()
        wait_for(lambda: patience.here == 3, "outcomes and claims wait for one another")
        wait_for(lambda: lock.here == 2, "the submission waits for the writer")
        assert (patience.here, lock.here, done) == (3, 2, [])
    for thread in waiting:
        thread.join(20)
    assert sorted(done) == ["claims", "outcomes", "submission"]
