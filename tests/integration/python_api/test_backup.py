"""Backup and restore: complete, readable, and refused as soon as one byte is wrong."""

from __future__ import annotations

import json
import re
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskflow.app import TaskFlow
from taskflow.core.errors import (
    BackupInvalidError,
    InvalidRequestError,
    StoreReadOnlyError,
)
from taskflow.core.registry import Registry
from taskflow.core.task import Task, TaskStatus
from taskflow.services import backup_file
from taskflow.services.backup_file import Row
from tests.integration.python_api.samples import PATIENCE_SECONDS, Gate, sample_registry

LARGE = "x" * 5_000


def fill(app: TaskFlow) -> None:
    """Tasks in many states, with large and small payloads."""
    done = app.submit("anything", {"a": [1, "zwei", None, 2.5], "large": LARGE})
    first = app.options(delay=3_600, tags=["eu"], metadata={"order": 7}, idempotency_key="k")
    blocker = first.submit("add", 1)
    app.options(depends_on=[blocker]).submit("add", 2)
    app.submit("fail", 'with "quotes",\nnewlines and ∑').wait(PATIENCE_SECONDS)
    app.options(delay=60).submit("add", 3).cancel()
    done.result(PATIENCE_SECONDS)


def content(app: TaskFlow) -> list[Task]:
    return app.list(limit=200).items


@pytest.fixture
def small_settings(home: Path) -> dict[str, object]:
    return {"home": home, "inline_payload_bytes": 1_024, "max_payload_bytes": 20_000}


@pytest.fixture
def filled(
    small_settings: dict[str, object], registry: Registry, stores: dict[str, Any]
) -> Iterator[TaskFlow]:
    """On SQLite and files, and on PostgreSQL and S3."""
    app = TaskFlow(handlers=registry, **small_settings, **stores)
    with app:
        fill(app)
        app.stop_workers()
        yield app


@pytest.fixture
def fresh(tmp_path: Path, registry: Registry) -> Iterator[TaskFlow]:
    with TaskFlow(home=tmp_path / "fresh", handlers=registry, num_workers=0) as app:
        yield app


def test_what_was_backed_up_is_restored(filled: TaskFlow, fresh: TaskFlow, tmp_path: Path) -> None:
    report = filled.backups.backup(tmp_path / "b.json")
    fresh.backups.restore(tmp_path / "b.json")

    assert content(fresh) == content(filled)
    assert len(content(fresh)) == 5
    for task in content(filled):
        assert fresh.history(task.task_id) == filled.history(task.task_id)
    assert fresh.metrics()["queue"] == pytest.approx(filled.metrics()["queue"], nan_ok=True, abs=60)
    assert report.header.payloads == 2  # arguments and result of the large one
    assert report.damaged == []


def test_it_can_be_restored_on_other_backends_and_back(
    filled: TaskFlow, fresh: TaskFlow, tmp_path: Path
) -> None:
    before = content(filled)
    filled.backups.backup(tmp_path / "there.json")
    fresh.backups.restore(tmp_path / "there.json")
    filled.runtime.payloads.delete(list(filled.runtime.payloads.list()))
    fresh.backups.backup(tmp_path / "back.json")
    filled.backups.restore(tmp_path / "back.json", force=True)
    assert content(filled) == before


def test_restored_tasks_run(filled: TaskFlow, tmp_path: Path, gate: Gate) -> None:
    task_id = filled.submit("add", 41).id
    filled.backups.backup(tmp_path / "b.json")
    registry = sample_registry(gate)
    with TaskFlow(home=tmp_path / "fresh", handlers=registry, num_workers=0) as fresh:
        fresh.backups.restore(tmp_path / "b.json")

    with TaskFlow(home=tmp_path / "fresh", handlers=registry) as working:
        assert working.handle(task_id).result(PATIENCE_SECONDS) == 42
        # Its idempotency keys and ids hold on, too.
        again = working.options(
            delay=3_600, tags=["eu"], metadata={"order": 7}, idempotency_key="k"
        )
        assert again.submit("add", 1).replayed
        new = working.submit("add", 1)
        assert new.id > task_id
        assert new.history()[0].event_id > working.history(task_id)[-1].event_id


def test_a_backup_of_a_backup_is_the_same(
    filled: TaskFlow, fresh: TaskFlow, tmp_path: Path
) -> None:
    first = filled.backups.backup(tmp_path / "1.json").header
    fresh.backups.restore(tmp_path / "1.json")
    second = fresh.backups.backup(tmp_path / "2.json").header

    assert second.sha256 == first.sha256


def test_an_empty_store_can_be_backed_up(fresh: TaskFlow, tmp_path: Path) -> None:
    fresh.backups.backup(tmp_path / "b.json")
    header = fresh.backups.restore(tmp_path / "b.json")

    assert header.records == 0
    assert content(fresh) == []


def test_the_file_is_json_with_a_record_on_every_line(filled: TaskFlow, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    header = filled.backups.backup(path).header

    document = json.loads(path.read_text())
    assert document["taskflow_backup"]["version"] == 1
    assert document["taskflow_backup"]["tables"]["tasks"] == 5
    assert datetime.fromisoformat(header.created_at).tzinfo == UTC
    lines = path.read_text().splitlines()
    assert len(document["records"]) == len(lines) - 2 == header.records
    assert [record["record"] for record in document["records"]] == list(range(1, len(lines) - 1))
    assert json.loads(lines[1].rstrip(",")) == document["records"][0]
    assert (path.stat().st_mode & 0o077) == 0  # payloads may hold secrets


def test_its_default_name_carries_the_time(fresh: TaskFlow) -> None:
    assert re.fullmatch(r"taskflow-backup-\d{8}T\d{6}Z\.json", fresh.backups.default_name())


def test_a_backup_may_be_made_while_tasks_are_submitted(
    app: TaskFlow, fresh: TaskFlow, tmp_path: Path
) -> None:
    enough = threading.Event()

    def submit() -> None:
        while not enough.is_set():
            app.submit_many([("add", (n,), {}) for n in range(20)])

    submitting = threading.Thread(target=submit)
    submitting.start()
    try:
        app.submit_many([("add", (n,), {}) for n in range(500)])
        tables = app.backups.backup(tmp_path / "b.json").header.tables
    finally:
        enough.set()
        submitting.join()

    assert tables["tasks"] == tables["task_inputs"] >= 500  # one moment of all tables
    fresh.backups.restore(tmp_path / "b.json")
    assert fresh.runtime.stores.inspection.task_count() == tables["tasks"]


def test_a_lost_payload_does_not_keep_the_rest_from_being_saved(
    filled: TaskFlow, tmp_path: Path
) -> None:
    [lost, *_] = filled.runtime.payloads.list()
    filled.runtime.payloads.delete([lost])

    report = filled.backups.backup(tmp_path / "b.json")

    assert report.damaged == [lost]
    assert report.header.tables["tasks"] == 5


def test_a_backup_that_cannot_be_written_says_why(filled: TaskFlow, tmp_path: Path) -> None:
    with pytest.raises(StoreReadOnlyError, match="cannot write the backup"):
        filled.backups.backup(tmp_path / "no such directory" / "b.json")


def test_an_interrupted_backup_leaves_no_file(tmp_path: Path) -> None:
    def records() -> Iterator[Row]:
        yield Row("tasks", {"id": 1})
        raise KeyboardInterrupt

    (tmp_path / "b.json").write_text("the one before")
    with pytest.raises(KeyboardInterrupt):
        backup_file.write(
            tmp_path / "b.json", records(), created_at="", taskflow="", schema_revision=""
        )

    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    assert (tmp_path / "b.json").read_text() == "the one before"


def test_tasks_are_not_replaced_unless_forced(
    filled: TaskFlow, fresh: TaskFlow, tmp_path: Path
) -> None:
    fresh.backups.backup(tmp_path / "empty.json")
    before = content(filled)

    with pytest.raises(InvalidRequestError, match="holds 5 tasks"):
        filled.backups.restore(tmp_path / "empty.json")
    assert content(filled) == before

    filled.backups.restore(tmp_path / "empty.json", force=True)
    assert content(filled) == []


def test_a_live_worker_is_in_the_way_unless_forced(
    app: TaskFlow, fresh: TaskFlow, tmp_path: Path
) -> None:
    fresh.backups.backup(tmp_path / "empty.json")
    app.submit("add", 1).wait(PATIENCE_SECONDS)
    app.backups.restore(tmp_path / "empty.json", force=True)
    while not app.workers():  # the restore replaced that table, too; the worker reports again
        app.stop_workers()
        app.start_workers()

    with pytest.raises(InvalidRequestError, match=r"worker .* is alive"):
        app.backups.restore(tmp_path / "empty.json")


# --- damaged files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TaskFlow, Path, bytes]]:
    """A store, a backup of it, and the backup's bytes. Tests must leave the store as it is."""
    directory = tmp_path_factory.mktemp("backup")
    app = TaskFlow(
        home=directory / "home",
        handlers=sample_registry(Gate()),
        inline_payload_bytes=1_024,
        max_payload_bytes=20_000,
    )
    with app:
        fill(app)
        app.stop_workers()
        app.backups.backup(directory / "good.json")
        yield app, directory, (directory / "good.json").read_bytes()


def refusal(app: TaskFlow, path: Path, data: bytes) -> str:
    """Why a restore of ``data`` is refused; the store must be as it was."""
    before, payloads = content(app), sorted(app.runtime.payloads.list())
    path.write_bytes(data)
    with pytest.raises(BackupInvalidError) as caught:
        app.backups.restore(path, force=True)
    assert content(app) == before
    assert sorted(app.runtime.payloads.list()) == payloads
    return caught.value.detail


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(
    backed_up: tuple[TaskFlow, Path, bytes], data: st.DataObject
) -> None:
    app, directory, good = backed_up
    index = data.draw(st.integers(0, len(good) - 1))
    flipped = good[index] ^ data.draw(st.integers(1, 255))
    line = good.count(b"\n", 0, index) + 1

    said = refusal(app, directory / "bad.json", good[:index] + bytes([flipped]) + good[index + 1 :])

    assert f"bad.json, line {line}: " in said or good[index : index + 1] == b"\n"


@settings(
    max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_missing_added_or_moved_piece_goes_unnoticed(
    backed_up: tuple[TaskFlow, Path, bytes], data: st.DataObject
) -> None:
    app, directory, good = backed_up
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start + 1, len(good)))
    lines = good.splitlines(keepends=True)
    one = data.draw(st.integers(1, len(lines) - 2))
    other = data.draw(st.integers(1, len(lines) - 2).filter(lambda n: n != one))
    bad = data.draw(
        st.sampled_from(
            [
                good[:start],
                good[:start] + good[end:],
                good[:end] + good[start:],
                good + good[start:end],
                b"".join(lines[:one] + lines[one + 1 :]),
                b"".join([*lines[:one], lines[one], *lines[one:]]),
                b"".join(
                    lines[other] if i == one else lines[one] if i == other else line
                    for i, line in enumerate(lines)
                ),
            ]
        ).filter(lambda changed: changed != good)
    )

    assert re.search(r"bad\.json, line \d+: ", refusal(app, directory / "bad.json", bad))


def rewritten(good: bytes, **header: object) -> bytes:
    """The file as somebody would write it who knows how, with other header fields."""
    first, rest = good.split(b"\n", 1)
    fields = json.loads(first + b"]}")["taskflow_backup"] | header
    return backup_file.Header.model_validate(fields).line() + rest


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"version": 2}, "version 2, this program reads version 1"),
        ({"schema_revision": "9999"}, "schema 9999, this store"),
        ({"records": 3}, "line 5: the file does not end"),
        ({"records": 10**6}, "records are missing"),
        ({"tables": {}}, "not those the header was written for"),
        ({"sha256": "0" * 64}, "not those the header was written for"),
    ],
)
def test_other_versions_and_false_promises_are_refused(
    backed_up: tuple[TaskFlow, Path, bytes], header: dict[str, object], says: str
) -> None:
    app, directory, good = backed_up

    said = refusal(app, directory / "bad.json", rewritten(good, **header))

    assert says in said or ("records" in header and "checksum" in said)


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"{}", b"[]\n", b"\x00" * 100, b"SQLite format 3\x00"]
)
def test_files_that_are_no_backup_are_refused(
    backed_up: tuple[TaskFlow, Path, bytes], data: bytes
) -> None:
    app, directory, _ = backed_up

    assert "line 1: this is not the beginning" in refusal(app, directory / "bad.json", data)


def test_well_formed_rows_that_fit_no_table_change_nothing(
    backed_up: tuple[TaskFlow, Path, bytes],
) -> None:
    app, directory, good = backed_up
    before = content(app)
    rows = json.loads(good)["records"]
    [task] = [r["row"] for r in rows if r.get("table") == "tasks" and r["row"]["task"] == "fail"]
    for wrong in (
        Row("no_such_table", {}),
        Row("tasks", {"id": "1"}),
        Row("tasks", task | {"status": None}),
        Row("tasks", task),
    ):
        path = directory / "bad.json"
        backup_file.write(
            path,
            [Row("tasks", task), wrong],
            created_at="2030-01-01T00:00:00+00:00",
            taskflow="0",
            schema_revision=app.runtime.stores.inspection.schema_revision(),
        )
        with pytest.raises(BackupInvalidError):
            app.backups.restore(path, force=True)
        assert content(app) == before


def test_a_file_that_is_not_there_is_named(backed_up: tuple[TaskFlow, Path, bytes]) -> None:
    app, directory, _ = backed_up

    with pytest.raises(InvalidRequestError, match=r"cannot read .*missing\.json: No such file"):
        app.backups.restore(directory / "missing.json")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    rows = (Row("events", {"id": n, "data": LARGE}) for n in range(2_000))
    tracemalloc.start()
    try:
        path = tmp_path / "b.json"
        backup_file.write(path, rows, created_at="", taskflow="", schema_revision="")
        assert sum(1 for _ in backup_file.read(path)) == 2_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert path.stat().st_size > 10_000_000
    assert peak < 3_000_000


def test_a_running_task_is_restored_as_such_for_recovery_to_take_over(
    app: TaskFlow, fresh: TaskFlow, gate: Gate, tmp_path: Path
) -> None:
    held = app.submit("hold")
    assert gate.entered.wait(PATIENCE_SECONDS)
    app.backups.backup(tmp_path / "b.json")

    fresh.backups.restore(tmp_path / "b.json")

    assert fresh.get(held.id).status is TaskStatus.RUNNING
    assert fresh.workers() == []  # processes are not part of a backup
