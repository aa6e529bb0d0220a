"""Artifacts live as long as their task: retention deletes them, a backup carries them, the doctor knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import PayloadMissingError
from taskflow.handle import TaskHandle
from taskflow.services.finding import Finding, Health
from taskflow.settings import load
from tests.integration.artifacts import handlers


@pytest.fixture
def handle(app: TaskFlow) -> TaskHandle:
    handle = app.submit("leave", {"report.csv": "a,b\n", "page.html": "<p>"})
    handle.result(timeout=30)
    return handle


def keys(app: TaskFlow) -> list[str]:
    return sorted(app.runtime.payloads.list())


def examine(app: TaskFlow, *, fix: bool = False) -> dict[str, Finding]:
    return {finding.check: finding for finding in app.doctor.examine(fix=fix)}


def test_keys_begin_with_the_tenant_and_name_the_task(app: TaskFlow, handle: TaskHandle) -> None:
    assert len(keys(app)) == 2
    for key in keys(app):
        assert key.startswith(f"default/artifact/{handle.id}.")


def test_retention_deletes_them_with_their_task(app: TaskFlow, handle: TaskHandle) -> None:
    purged, payloads = app.runtime.stores.retention.purge(finished_before=2**60, limit=10)
    assert purged == 1
    app.runtime.payloads.delete(payloads)
    assert keys(app) == []


def test_a_backup_brings_them_back(app: TaskFlow, handle: TaskHandle, tmp_path: Path) -> None:
    report = app.backups.backup(tmp_path / "backup.json")
    assert report.damaged == []
    assert report.header.payloads == 2
    with TaskFlow(
        load(home=tmp_path / "other", num_workers=0), handlers=handlers.registry
    ) as other:
        other.backups.restore(tmp_path / "backup.json")
        assert other.artifact(handle.id, "report.csv") == b"a,b\n"
        assert [artifact.name for artifact in other.artifacts(handle.id)] == [
            "page.html",
            "report.csv",
        ]


def test_the_doctor_leaves_them_alone_and_takes_what_a_dead_attempt_left(
    app: TaskFlow, handle: TaskHandle
) -> None:
    left = f"default/artifact/{handle.id}.1f-deadbeef"
    app.runtime.payloads.put({left: b"its row was never written"})
    assert examine(app)["orphans"].examples == (left,)
    assert examine(app, fix=True)["orphans"].health is Health.REPAIRED
    assert len(keys(app)) == 2
    assert handle.artifact("report.csv") == b"a,b\n"
    assert "all 2 stored payloads" in examine(app)["payloads"].message


def test_a_lost_artifact_is_reported_and_an_error_to_its_reader(
    app: TaskFlow, handle: TaskHandle
) -> None:
    app.runtime.payloads.delete(keys(app))
    assert examine(app)["payloads"].count == 2
    with pytest.raises(PayloadMissingError):
        handle.artifact("report.csv")
