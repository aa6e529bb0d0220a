"""The doctor finds what was broken here on purpose, repairs what is safe, and leaves the rest alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from taskflow.app import TaskFlow
from taskflow.core.errors import StoreCorruptError
from taskflow.core.registry import Registry
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import WorkerRecord
from taskflow.services.doctor import Doctor
from taskflow.services.finding import Finding, Health
from taskflow.services.home_checks import checks_of
from taskflow.testing import FakeClock
from tests.support import aws, backends, database_time
from tests.support.aws_proxy import aws_proxy
from tests.support.cutting_proxy import cutting_proxy

on_files = pytest.mark.parametrize("stores", ["local"], indirect=True)

HOUR = 3_600.0
LARGE = "x" * 5_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def idle(
    home: Path, registry: Registry, clock: FakeClock, stores: dict[str, Any]
) -> Iterator[TaskFlow]:
    """An app on a clock of ours, whose tasks only this test moves: SQLite and files, PostgreSQL and S3."""
    url = stores.get("database_url")
    with (
        database_time.following(clock, url) if url else nullcontext(),
        TaskFlow(
            home=home, handlers=registry, clock=clock, num_workers=0, inline_payload_bytes=1_024,
            **stores,
        ) as app,
    ):  # fmt: skip
        yield app


def examine(app: TaskFlow, *, fix: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in app.doctor.examine(fix=fix)}


def troubles(app: TaskFlow, *, fix: bool = False) -> list[str]:
    return [f.check for f in examine(app, fix=fix).values() if f.health is not Health.OK]


def report_worker(app: TaskFlow, *, idle: int) -> None:
    app.runtime.stores.workers.report(
        WorkerRecord("w", "host", 1, 0, 0, "running", {"total": 4, "busy": 4 - idle, "idle": idle})
    )


def execute(app: TaskFlow, statement: str, **values: object) -> None:
    engine = sa.create_engine(app.settings.resolved_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


def test_a_healthy_store_passes_every_check(idle: TaskFlow) -> None:
    idle.submit("anything", LARGE)

    findings = examine(idle, fix=True)

    assert {finding.health for finding in findings.values()} == {Health.OK}
    assert findings.keys() >= {
        "temporary files", "schema", "integrity", "clock", "leases", "queue",
        "dependencies", "handlers", "payloads", "orphans",
    }  # fmt: skip
    assert "all 1 stored payloads" in findings["payloads"].message


def test_a_task_of_a_killed_worker_is_taken_over(home: Path, registry: Registry) -> None:
    program = (
        "import sys, threading\n"
        "from taskflow import TaskFlow, task\n"
        "@task('add')\n"
        "def add(a):\n"
        "    print(flush=True)\n"
        "    threading.Event().wait()\n"
        "app = TaskFlow(home=sys.argv[1]).start()\n"
        "app.submit('add', 1)\n"
        "threading.Event().wait()\n"
    )
    command = [sys.executable, "-c", program, str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        with TaskFlow(home=home, handlers=registry, num_workers=0) as app:
            [task] = app.list().items
            assert examine(app, fix=True)["leases"].health is Health.OK
            process.kill()
            process.wait()

            assert examine(app)["leases"].health is Health.WARNING
            assert app.get(task.task_id).status is TaskStatus.RUNNING

            assert examine(app, fix=True)["leases"].health is Health.REPAIRED
            recovered = app.get(task.task_id)
            assert (recovered.status, recovered.crash_count) == (TaskStatus.PENDING, 1)


def test_tasks_of_workers_that_may_be_alive_are_left_to_workers(
    idle: TaskFlow, clock: FakeClock
) -> None:
    handle = idle.submit("add", 1)
    execute(
        idle,
        "UPDATE tasks SET status = 'running', attempt = 1, lease_token = 1, worker_id = 'w', lease_until = :now",
        now=clock.now_us(),
    )
    clock.advance(61)
    assert "not known to be dead" in examine(idle, fix=True)["leases"].message

    report_worker(idle, idle=1)
    assert "running workers take them over" in (examine(idle, fix=True)["leases"].advice or "")
    assert handle.status() is TaskStatus.RUNNING


def test_tasks_that_idle_workers_forgot_are_announced_again(
    idle: TaskFlow, clock: FakeClock
) -> None:
    handle = idle.submit("add", 1)
    execute(idle, "DELETE FROM outbox")
    clock.advance(301)
    assert examine(idle)["queue"].health is Health.OK  # nobody is there to have forgotten it

    report_worker(idle, idle=0)
    assert examine(idle)["queue"].health is Health.OK  # everybody is busy

    report_worker(idle, idle=2)
    assert examine(idle)["queue"].examples == (handle.id,)
    assert examine(idle, fix=True)["queue"].health is Health.REPAIRED
    assert troubles(idle) == []
    entries = idle.runtime.stores.outbox.lease(lookahead_seconds=0, lease_seconds=1, limit=10)
    assert [entry.message.task_id for entry in entries] == [handle.id]


def test_tasks_whose_handler_nobody_has_are_named(home: Path, registry: Registry) -> None:
    with TaskFlow(home=home, handlers=registry, num_workers=0) as app:
        for _ in range(2):
            app.submit("anything", 1)
        app.submit("add", 1).cancel()
    with TaskFlow(home=home, handlers=Registry(), num_workers=0) as app:
        finding = examine(app)["handlers"]
        assert (finding.health, finding.count) == (Health.WARNING, 2)
        assert finding.examples == ("anything (2)",)
        assert finding.advice is not None
        assert finding.advice.endswith("or cancel them: until then they wait")

        app.runtime.stores.workers.report(
            WorkerRecord("w", "host", 1, 0, 0, "running", {"tasks": ["anything"]})
        )
        assert examine(app)["handlers"].health is Health.OK


def test_a_worker_says_which_tasks_it_takes(app: TaskFlow, registry: Registry) -> None:
    [worker] = app.workers()
    assert worker.details["tasks"] == [handler.name for handler in app.handlers()]


def test_a_task_blocked_by_nothing_goes_on(idle: TaskFlow) -> None:
    parent = idle.options(delay=60).submit("add", 1)
    child = idle.options(depends_on=[parent]).submit("add", 2)
    parent.cancel()
    execute(
        idle,
        "UPDATE tasks SET status = 'blocked', waits_for = 1, finished_at = NULL, fingerprint = NULL "
        "WHERE id = :id",
        id=child.id,
    )

    assert examine(idle)["dependencies"].health is Health.PROBLEM
    assert "1 repaired" in examine(idle, fix=True)["dependencies"].message
    assert child.status() is TaskStatus.FAILED
    assert troubles(idle) == []


def test_lost_and_damaged_payloads_are_named_and_stay(idle: TaskFlow) -> None:
    idle.submit("anything", LARGE)
    idle.submit("anything", LARGE + "y")
    lost, damaged = sorted(idle.runtime.payloads.list())
    idle.runtime.payloads.delete([lost])
    _damage(idle, damaged)

    finding = examine(idle, fix=True)["payloads"]

    assert (finding.health, finding.count) == (Health.PROBLEM, 2)
    assert all(example.startswith("default/input/") for example in finding.examples)
    assert "2 of 2" in finding.message


def test_only_old_payloads_of_no_task_are_deleted(idle: TaskFlow, clock: FakeClock) -> None:
    payloads = idle.runtime.payloads
    kept = idle.submit("anything", LARGE)
    purged = idle.submit("add", 1)
    strange = "default/artifacts/report.pdf"
    orphan = f"default/result/{purged.id}"
    execute(idle, "DELETE FROM tasks WHERE id = :id", id=purged.id)
    payloads.put({orphan: b"1", strange: b"2", f"default/result/{kept.id}": b"3"})

    clock.advance(HOUR - 1)
    assert "orphans" not in troubles(idle, fix=True)  # it may be a submission under way

    clock.advance(2)
    assert examine(idle)["orphans"].examples == (orphan,)
    assert "1 payloads" in examine(idle, fix=True)["orphans"].message
    # The last one belongs to a task that is not final: it may be a result about to be written.
    assert sorted(payloads.list()) == sorted(
        [strange, f"default/input/{kept.id}", f"default/result/{kept.id}"]
    )


def test_a_result_that_lost_its_race_is_an_orphan_once_its_task_is_final(
    idle: TaskFlow, clock: FakeClock
) -> None:
    handle = idle.options(delay=60).submit("add", 1)
    key = f"default/result/{handle.id}"
    idle.runtime.payloads.put({key: b"1"})
    assert "orphans" not in troubles(idle)

    handle.cancel()

    assert examine(idle)["orphans"].examples == (key,)


def test_what_a_restore_has_stored_is_no_orphan(
    home: Path,
    registry: Registry,
    clock: FakeClock,
    stores: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its payloads come before their rows, and its tasks may be of any age."""
    found: dict[str, Finding] = {}
    url = stores.get("database_url")
    with (
        database_time.following(clock, url) if url else nullcontext(),
        TaskFlow(
            home=home, handlers=registry, clock=clock, num_workers=0, inline_payload_bytes=1_024,
            database_busy_timeout_seconds=0.1, **stores,
        ) as app,
    ):  # fmt: skip
        handle = app.submit("anything", LARGE)
        app.backups.backup(tmp_path / "b.json")
        execute(app, "DELETE FROM tasks")
        clock.advance(2 * HOUR)
        payloads = app.runtime.payloads
        put = payloads.put

        def examined(objects: dict[str, bytes]) -> None:
            put(objects)
            found.update(examine(app, fix=True))

        monkeypatch.setattr(payloads, "put", examined)
        app.backups.restore(tmp_path / "b.json")

        assert "orphans cannot be checked" in found["store"].message
        assert troubles(app, fix=True) == []
        assert app.get(handle.id).args == [LARGE]


def test_a_clock_that_was_set_back_is_noticed(idle: TaskFlow, clock: FakeClock) -> None:
    idle.submit("add", 1)
    clock.jump(-3 * HOUR)

    finding = examine(idle, fix=True)["clock"]

    assert finding.health is Health.PROBLEM
    assert "10800 s in the future" in finding.message


def test_a_database_that_can_only_be_read_is_noticed(
    home: Path, registry: Registry, postgres_store: str
) -> None:
    """As a standby is, or a primary whose disk was nearly full."""
    with TaskFlow(
        home=home, handlers=registry, num_workers=0,
        database_url=f"{postgres_store}?options=-cdefault_transaction_read_only%3Don",
    ) as app:  # fmt: skip
        finding = examine(app)["store"]

    assert finding.health is Health.PROBLEM
    assert "the store cannot be written" in finding.message


def test_another_schema_ends_the_examination(idle: TaskFlow) -> None:
    table = "taskflow_version" if idle.settings.database_url else "alembic_version"
    execute(idle, f"UPDATE {table} SET version_num = '9999'")

    findings = examine(idle)

    assert findings["schema"].health is Health.PROBLEM
    assert "payloads" not in findings


def test_a_damaged_database_is_found(home: Path, registry: Registry) -> None:
    with TaskFlow(home=home, handlers=registry, num_workers=0) as app:
        app.submit_many([("anything", (LARGE[:900],), {}) for _ in range(200)])
    file = home / "taskflow.db"
    pages = bytearray(file.read_bytes())
    for start in range(20 * 4_096, len(pages) - 4_096, 8 * 4_096):
        pages[start : start + 512] = b"\xff" * 512
    file.write_bytes(pages)

    app = TaskFlow(home=home, handlers=registry, num_workers=0)
    try:
        with app:
            finding = examine(app)["integrity"]
    except StoreCorruptError:
        return  # noticed even earlier

    assert finding.health is Health.PROBLEM
    assert finding.examples


def test_files_that_writers_left_behind_go(home: Path, registry: Registry) -> None:
    with TaskFlow(home=home, handlers=registry, num_workers=0, inline_payload_bytes=10) as app:
        app.submit("anything", LARGE)
        [payload] = _payload_files(app)
        old, young = payload.parent / ".tmp-old", payload.parent / ".tmp-young"
        for file in (old, young):
            file.write_bytes(b"half")
        os.utime(old, (0, 0))

        assert examine(app)["temporary files"].count == 1
        assert examine(app, fix=True)["temporary files"].health is Health.REPAIRED

        assert not old.exists()
        assert young.exists()
        assert troubles(app) == []


@on_files
def test_a_full_disk_and_foreign_files_are_reported(
    idle: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(idle.settings.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50 * 2**20))
    foreign = idle.settings.home / "taskflow.db"
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != foreign and access(path, mode))

    findings = examine(idle)

    assert findings["disk"].health is Health.PROBLEM
    assert findings["permissions"].examples == (str(foreign),)
    assert "chown" in (findings["permissions"].advice or "")


def test_without_a_home_there_is_nothing_to_complain_about(tmp_path: Path) -> None:
    assert {check(True).health for check in checks_of(tmp_path / "none")} == {Health.OK}


def _damage(app: TaskFlow, key: str) -> None:
    """Behind TaskFlow's back."""
    settings = app.settings
    if settings.payload_backend == "s3":
        s3 = aws.client("s3", os.environ["AWS_ENDPOINT_URL"])
        s3.put_object(Bucket=settings.s3_bucket, Key=f"{settings.s3_prefix}{key}", Body=b"?")
        s3.close()
    else:
        [file] = [file for file in _payload_files(app) if file.name == key.rpartition("/")[2]]
        file.write_bytes(file.read_bytes()[:-1] + b"?")


def _payload_files(app: TaskFlow) -> list[Path]:
    files = (app.settings.home / "payloads").rglob("*")
    return [file for file in files if file.is_file() and not file.name.startswith(".")]


def test_long_tasks_that_nobody_serves_are_found_and_not_announced_again(
    idle: TaskFlow, clock: FakeClock
) -> None:
    """As the queue is on SQS: the store alone says the rest."""
    stores, runtime = idle.runtime.stores, idle.runtime
    doctor = Doctor(
        stores.inspection,
        stores.maintenance,
        stores.outbox,
        stores.workers,
        stores.execution,
        runtime.payloads,
        runtime.liveness,
        clock,
        recover=runtime.recovery.run_once,
        long_task_seconds=60.0,
    )
    long = idle.options(timeout=61).submit("anything", "x")
    short = idle.options(timeout=60).submit("anything", "x")
    execute(idle, "DELETE FROM outbox")
    clock.advance(HOUR)

    def found(queues: str, check: str, *, fix: bool = False) -> Finding:
        details = {"total": 4, "busy": 0, "idle": 4, "queues": queues}
        stores.workers.report(WorkerRecord("w", "host", 1, 0, 0, "running", details))
        [finding] = [f for f in doctor.examine(fix=fix) if f.check == check]
        return finding

    unserved = found("ordinary", "workers")
    assert (unserved.health, unserved.examples) == (Health.WARNING, (long.id,))
    assert "TASKFLOW_WORKER_QUEUES=long or all" in str(unserved.advice)
    assert found("ordinary", "queue").examples == (short.id,)
    assert found("long", "queue").examples == (long.id,)
    assert found("all", "workers").health is Health.OK
    assert found("ordinary", "queue", fix=True).count == 1
    assert [f.examples for f in [found("all", "queue")]] == [(long.id,)]


@pytest.mark.parametrize(
    ("serves", "is_served"),
    [
        ({}, True),  # an older worker, that does not say
        ({"tasks": ["add", "other"], "priorities": [0, 2]}, True),
        ({"tasks": ["other"], "priorities": [2]}, False),
        ({"tasks": ["add"], "priorities": [0, 1]}, False),
    ],
)
def test_tasks_that_dedicated_workers_do_not_serve_are_not_called_forgotten(
    idle: TaskFlow, clock: FakeClock, serves: dict[str, Any], is_served: bool
) -> None:
    handle = idle.submit("add", 1)
    execute(idle, "DELETE FROM outbox")
    clock.advance(301)
    details = {"total": 4, "busy": 0, "idle": 4, **serves}
    idle.runtime.stores.workers.report(WorkerRecord("w", "host", 1, 0, 0, "running", details))

    found = examine(idle, fix=True)

    assert found["queue"].health is (Health.REPAIRED if is_served else Health.OK)
    assert found["workers"].examples == (() if is_served else (handle.id,))
    if not is_served:
        advice = str(found["workers"].advice)
        assert (
            "the task add and the priority normal (TASKFLOW_WORKER_TASKS, TASKFLOW_WORKER_PRIORITIES)"
            in advice
        )


def test_a_worker_says_which_priorities_it_takes(home: Path, registry: Registry) -> None:
    with TaskFlow(home=home, handlers=registry, worker_priorities="low,critical") as app:
        [worker] = app.workers()
        assert worker.details["priorities"] == [0, 3]


def test_payloads_that_cannot_be_reached_are_a_finding_that_ends_nothing(
    home: Path,
    registry: Registry,
    emulated_aws: backends.Emulated,
    postgres_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = emulated_aws.stores(postgres_store)
    with aws_proxy(emulated_aws.url) as proxy:
        for name, value in aws.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        with TaskFlow(
            home=home, handlers=registry, num_workers=0, inline_payload_bytes=1_024, **settings
        ) as app:
            app.submit("anything", LARGE)
            with proxy.unreachable():
                findings = examine(app, fix=True)
            for check in ("payloads", "orphans"):
                assert findings[check].health is Health.PROBLEM
                assert "S3 does not answer" in findings[check].message
            assert troubles(app) == []


@pytest.mark.parametrize("method", ["payload_keys", "payload_uses"])
def test_a_database_that_goes_away_meanwhile_is_no_finding_about_payloads(
    home: Path,
    registry: Registry,
    postgres_store: str,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    store = urlsplit(postgres_store)
    assert store.port is not None
    with (
        cutting_proxy(store.port) as proxy,
        TaskFlow(
            home=home, handlers=registry, num_workers=0, inline_payload_bytes=1_024,
            database_url=store._replace(netloc=f"{store.username}@127.0.0.1:{proxy.port}").geturl(),
        ) as app,
    ):  # fmt: skip
        app.submit("anything", LARGE)
        inspection = app.runtime.stores.inspection
        asked = getattr(inspection, method)

        def away(*args: Any, **options: Any) -> Any:
            proxy.close()
            return asked(*args, **options)

        monkeypatch.setattr(inspection, method, away)
        found = list(app.doctor.examine())

    problems = [finding for finding in found if finding.health is Health.PROBLEM]
    assert {finding.check for finding in problems} == {"store"}
    assert all("PostgreSQL did not answer" in finding.message for finding in problems)
