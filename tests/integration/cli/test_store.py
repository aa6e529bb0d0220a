"""backup, restore, migrate, doctor, bench."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Cli


def test_backup_and_restore(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = cli.json("submit", "echo", "n=1")["task_id"]

    result = cli.run("backup")
    file = Path(result.stdout.strip())
    assert file.name.startswith("taskflow-backup-")
    assert "1 tasks" in result.stderr
    assert cli.json("backup", "named.json")["file"] == "named.json"

    assert "holds 1 tasks" in cli.fails("restore", str(file), code=2)
    monkeypatch.setenv("TASKFLOW_HOME", "elsewhere")
    assert cli.ok("restore", str(file)).startswith("restored 1 tasks as of ")
    assert cli.json("status", task_id)["args"] == []
    assert cli.json("restore", "named.json", "--force")["tables"]["tasks"] == 1


def test_a_backup_with_a_wrong_line_is_refused_and_changes_nothing(cli: Cli) -> None:
    cli.ok("submit", "echo", "n=1")
    cli.ok("backup", "b.json")
    text = Path("b.json").read_text()
    Path("b.json").write_text(text.replace('"task":"echo"', '"task":"evil"'))
    line = next(n for n, row in enumerate(text.splitlines(), 1) if '"task":"echo"' in row)

    said = cli.fails("restore", "b.json", "--force", code=1)

    assert (
        said
        == f"taskflow: b.json, line {line}: the line was changed: its checksum does not match\n"
    )
    assert [task["task"] for task in cli.json("list")] == ["echo"]


def test_a_lost_payload_is_mentioned(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLOW_INLINE_PAYLOAD_BYTES", "10")
    cli.ok("submit", "echo", "text=long enough")
    [payload] = [f for f in Path(".taskflow/payloads").rglob("*") if f.is_file()]
    payload.unlink()

    assert "1 payloads (default/input/" in cli.run("backup", "b.json").stderr
    result = cli.run("doctor")
    assert result.exit_code == 1
    assert "1 of 1 payloads" in result.stdout


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_migrate_creates_the_store(
    cli: Cli, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    if database == "postgresql":
        url = request.getfixturevalue("postgres_database")
        monkeypatch.setenv("TASKFLOW_DATABASE_URL", url)
    assert cli.json("migrate")["created"] is True
    assert "has schema" in cli.ok("migrate")
    assert cli.json("migrate")["created"] is False


def test_a_database_that_is_not_there_is_named(
    cli: Cli, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLOW_DATABASE_URL", f"{postgres_database}_missing")
    said = cli.fails("migrate", code=1)
    assert said.startswith("taskflow: PostgreSQL refused: ")
    assert said.endswith('_missing" does not exist\n')


def test_doctor_on_a_sound_store(cli: Cli) -> None:
    cli.ok("submit", "echo")

    assert {finding["health"] for finding in cli.json("doctor")} == {"ok"}
    assert "ok       integrity: the database is sound" in cli.ok("doctor", "--fix")


def test_doctor_repairs_only_when_told_to(cli: Cli) -> None:
    parent = cli.json("submit", "echo", "--delay", "1h")["task_id"]
    child = cli.json("submit", "echo", "--depends-on", parent)["task_id"]
    with sqlite3.connect(".taskflow/taskflow.db") as store:
        store.execute("UPDATE tasks SET waits_for = 7 WHERE id = ?", (child,))
    store.close()

    result = cli.run("doctor")
    assert result.exit_code == 1
    assert "problem  dependencies" in result.stdout
    assert "→ --fix" in result.stdout
    assert "repaired dependencies" in cli.ok("doctor", "--fix")
    assert cli.run("doctor").exit_code == 0


def test_on_aws_it_is_the_database_that_is_missing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLOW_BACKEND", "aws")
    monkeypatch.setenv("TASKFLOW_S3_BUCKET", "payloads")
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    assert "needs a database: TASKFLOW_DATABASE_URL" in cli.fails("list", code=2)
    assert "needs a database: TASKFLOW_DATABASE_URL" in cli.run("doctor").stdout


def test_doctor_says_why_a_store_cannot_be_opened(cli: Cli) -> None:
    Path(".taskflow").mkdir()
    Path(".taskflow/taskflow.db").write_bytes(b"no database" * 1_000)

    result = cli.run("doctor", "--json")

    assert result.exit_code == 1
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)}
    assert findings["disk"]["health"] == "ok"
    assert "not a database" in findings["store"]["message"]


def test_a_store_of_a_newer_program_is_left_alone(cli: Cli) -> None:
    cli.ok("migrate")
    with sqlite3.connect(".taskflow/taskflow.db") as store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
    store.close()

    assert "newer TaskFlow" in cli.fails("list", code=1)
    assert "newer TaskFlow" in cli.run("doctor").stdout


def test_bench_measures_every_number(cli: Cli) -> None:
    result = cli.json("bench", "--tasks", "300", "--workers", "2")

    assert (result["tasks"], result["workers"]) == (300, 2)
    for name in ("submitted_per_second", "finished_per_second", "cpu_us_per_task"):
        assert result[name] > 0
    assert 0 < result["latency_p50_ms"] <= result["latency_p95_ms"]
    assert result["finished_per_second"] <= result["submitted_per_second"]
    assert not (cli.directory / ".taskflow").exists()
    assert "end to end" in cli.ok("bench", "--tasks", "10")
