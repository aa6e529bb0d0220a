"""A store that is full, locked, read-only, damaged, or from another time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow, TaskStatus
from taskflow.core.errors import (
    StoreCorruptError,
    StoreFullError,
    StoreUnavailableError,
    StoreVersionError,
)
from taskflow.core.registry import Registry, TaskOptions
from tests.acceptance.crash.processes import Nursery
from tests.acceptance.faults.conftest import PATIENCE_SECONDS, Place


@dataclass
class Held:
    """A task that runs until it is let go, and an app in which it does."""

    app: TaskFlow
    running: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    refused: threading.Event = field(default_factory=threading.Event)
    runs: int = 0

    def handler(self, size: int) -> str:
        self.runs += 1
        self.running.set()
        self.go.wait(PATIENCE_SECONDS)
        return "x" * size

    def watch(self) -> None:
        """``refused`` is set when an outcome could not be written."""
        finish: Callable[[Any], Any] = self.app.runtime.execution.finish

        def watched(done: Any) -> Any:
            try:
                return finish(done)
            except StoreUnavailableError:
                self.refused.set()
                raise

        self.app.runtime.execution.finish = watched  # type: ignore[method-assign]


@contextmanager
def held(home: Path, **settings: Any) -> Iterator[Held]:
    registry = Registry()
    app = TaskFlow(handlers=registry, home=home, num_workers=2, **settings)
    made = Held(app)
    registry.add(made.handler, name="held", declared=TaskOptions())
    registry.add(lambda text: len(text), name="small", declared=TaskOptions())
    with app:
        made.watch()
        yield made


# --- full ---------------------------------------------------------------------------------------


@contextmanager
def full(app: TaskFlow) -> Iterator[None]:
    """The store may not grow by another page: SQLite then says what it says on a full disk."""
    database = app.runtime.database
    with database.write() as tx:
        driver = tx._cursor.connection
    [[pages]] = driver.execute("PRAGMA page_count").fetchall()
    driver.execute(f"PRAGMA max_page_count={pages}")
    yield
    driver.execute("PRAGMA max_page_count=1000000000")


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    with held(tmp_path, inline_payload_bytes=500_000) as it:
        app = it.app
        accepted = [app.submit("small", "x")]
        accepted[0].result(PATIENCE_SECONDS)

        def fill() -> None:
            while len(accepted) < 1_000:
                accepted.append(app.submit("small", "x" * 50_000))

        with full(app), pytest.raises(StoreFullError, match="full"):
            fill()
        assert app.submit("small", "xyz").result(PATIENCE_SECONDS) == 3
        for handle in accepted:
            assert handle.wait(PATIENCE_SECONDS).status is TaskStatus.COMPLETED


def test_an_outcome_waits_until_a_full_disk_has_room(tmp_path: Path) -> None:
    """What ran to its end is not run again only because that could not be written down at once."""
    with held(tmp_path, inline_payload_bytes=500_000) as it:
        handle = it.app.submit("held", 100_000)
        assert it.running.wait(PATIENCE_SECONDS)
        with full(it.app):
            it.go.set()
            assert it.refused.wait(PATIENCE_SECONDS)
            assert handle.status() is TaskStatus.RUNNING, "reading goes on"
        assert len(handle.result(PATIENCE_SECONDS)) == 100_000
        assert it.runs == 1


def test_files_that_may_not_grow(place: Place) -> None:
    """In a process of its own, for the kernel's limit (RLIMIT_FSIZE) is a process's."""
    with place.start("fill", max_payload_bytes=4_000_000) as process:
        process.expect("large payloads refused")
        process.expect("small tasks go on")
        process.expect("small tasks refused")
        process.expect("all completed")
        assert process.wait() == 0, process.log_tail()
    place.is_sound()


# --- locked -------------------------------------------------------------------------------------


def test_a_lock_of_another_process_is_waited_for_and_then_reported(
    tmp_path: Path, nursery: Nursery
) -> None:
    with held(tmp_path / "home", database_busy_timeout_seconds=0.1) as it:
        handle = it.app.submit("held", 3)
        assert it.running.wait(PATIENCE_SECONDS)
        with nursery.start(
            "tests.acceptance.faults.programs:hold_write_lock",
            log=tmp_path / "log",
            database=str(tmp_path / "home" / "taskflow.db"),
        ) as other:
            other.expect("locked")
            with pytest.raises(StoreUnavailableError, match="write lock"):
                it.app.submit("small", "x")
            it.go.set()
            assert it.refused.wait(PATIENCE_SECONDS)
            assert handle.status() is TaskStatus.RUNNING, "reading goes on"
            other.tell("let go")
            other.expect("unlocked")
        assert handle.result(PATIENCE_SECONDS) == "xxx"
        assert it.runs == 1
        assert it.app.submit("small", "x").result(PATIENCE_SECONDS) == 1


def test_a_short_lock_of_another_process_is_not_noticed(tmp_path: Path, nursery: Nursery) -> None:
    with held(tmp_path / "home", database_busy_timeout_seconds=PATIENCE_SECONDS) as it:
        with nursery.start(
            "tests.acceptance.faults.programs:hold_write_lock",
            log=tmp_path / "log",
            database=str(tmp_path / "home" / "taskflow.db"),
        ) as other:
            other.expect("locked")
            answers: list[Any] = []
            submitter = threading.Thread(target=lambda: answers.append(it.app.submit("small", "x")))
            submitter.start()
            other.tell("let go")
            other.expect("unlocked")
            submitter.join(PATIENCE_SECONDS)
        assert answers[0].result(PATIENCE_SECONDS) == 1


# --- read-only ----------------------------------------------------------------------------------


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[Path]:
    """A directory in which the test may make read-only what it likes."""
    directory = tmp_path / "protected"
    directory.mkdir()
    yield directory
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dev", "--port", "0"],
        ["submit", "echo", "message=hi"],
        ["list"],
        ["doctor"],
    ],
    ids=["dev", "submit", "list", "doctor"],
)
@pytest.mark.parametrize("exists", [True, False], ids=["used", "new"])
def test_a_read_only_home_ends_every_command_with_one_clear_sentence(
    arguments: list[str], exists: bool, protected: Path, tmp_path: Path, nursery: Nursery
) -> None:
    home = protected / "home"
    if exists:
        with TaskFlow(home=home, num_workers=1) as app:
            app.submit("echo", "hi").result(PATIENCE_SECONDS)
    for path in [*protected.rglob("*"), protected]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    with nursery.start(
        "tests.acceptance.faults.programs:command",
        log=tmp_path / "log",
        environment={"TASKFLOW_HOME": str(home), "TASKFLOW_PORT": "1"},
        powerless=True,
        arguments=arguments,
    ) as process:
        assert process.wait() in (1, 2)
        text = process.log_tail()
    assert "Traceback" not in text, text
    assert "cannot be" in text or "there is no store" in text, text


# --- of another time, or damaged ----------------------------------------------------------------


@pytest.fixture
def used_home(tmp_path: Path) -> Path:
    with TaskFlow(home=tmp_path / "home", num_workers=1) as app:
        handles = [app.submit("echo", "x" * 1_000) for _ in range(200)]
        for handle in handles:
            handle.result(PATIENCE_SECONDS)
    return tmp_path / "home"


def run(nursery: Nursery, home: Path, *arguments: str) -> tuple[int, str]:
    log = home.parent / "log"
    with nursery.start(
        "tests.acceptance.faults.programs:command",
        log=log,
        environment={"TASKFLOW_HOME": str(home), "TASKFLOW_PORT": "1"},
        arguments=list(arguments),
    ) as process:
        return process.wait(), process.log_tail()


def test_a_store_of_a_newer_version_is_left_alone(used_home: Path, nursery: Nursery) -> None:
    file = used_home / "taskflow.db"
    connection = sqlite3.connect(file)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(StoreVersionError, match="newer"):
        TaskFlow(home=used_home).start()
    code, text = run(nursery, used_home, "dev", "--port", "0")
    assert (code, "newer" in text, "Traceback" in text) == (1, True, False), text
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_said_to_be_damaged(
    used_home: Path, nursery: Nursery
) -> None:
    file = used_home / "taskflow.db"
    file.write_bytes(b"not a database at all" + file.read_bytes()[21:])
    before = file.read_bytes()
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        TaskFlow(home=used_home).start()
    code, text = run(nursery, used_home, "dev", "--port", "0")
    assert (code, "damaged" in text, "Traceback" in text) == (1, True, False), text
    assert file.read_bytes() == before


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_damage_inside_the_file_is_reported_by_whoever_meets_it(
    how: str, used_home: Path, nursery: Nursery
) -> None:
    file = used_home / "taskflow.db"
    content = file.read_bytes()
    assert len(content) > 100_000
    if how == "overwritten":
        middle = len(content) // 8
        content = content[:middle] + b"\xa5" * (len(content) - 2 * middle) + content[-middle:]
    else:
        content = content[: len(content) // 3]
    file.write_bytes(content)

    def use() -> None:
        with TaskFlow(home=used_home, num_workers=0) as app:
            for _ in range(20):
                app.list(limit=200)
                app.submit("echo", "x" * 1_000)

    with pytest.raises(StoreCorruptError, match="damaged"):
        use()
    code, text = run(nursery, used_home, "doctor")
    assert (code, "Traceback" in text) == (1, False), text
