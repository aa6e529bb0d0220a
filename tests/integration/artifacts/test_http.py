"""Artifacts over HTTP: files are streamed, what is in S3 is pointed at; nobody reads another tenant's."""

from __future__ import annotations

import httpx
import pytest

from taskflow.app import TaskFlow
from taskflow.calls.tasks import TaskCalls
from taskflow.client import Client
from taskflow.core.errors import ArtifactNotFoundError, TaskNotFoundError
from taskflow.settings import Settings

UNKNOWN = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
PAGE = "<script>alert(1)</script>"


@pytest.fixture
def task_id(app: TaskFlow) -> str:
    handle = app.submit("leave", {"report.csv": "a,b\n", "page.html": PAGE})
    handle.result(timeout=30)
    return handle.id


def test_the_list_says_what_there_is_and_where(
    server_url: str, task_id: str, settings: Settings
) -> None:
    page = httpx.get(f"{server_url}/api/v1/tasks/{task_id}/artifacts").json()
    assert page["next_cursor"] is None
    html, csv = page["items"]
    assert (html["name"], html["content_type"]) == ("page.html", "text/html")
    assert (csv["name"], csv["content_type"], csv["size_bytes"]) == ("report.csv", "text/csv", 4)
    assert csv["created_at"].endswith("Z")
    if settings.payload_backend == "s3":
        assert httpx.get(csv["url"]).text == "a,b\n"
    else:
        assert csv["url"] == f"/api/v1/tasks/{task_id}/artifacts/report.csv"


def test_a_file_is_answered_as_a_download_that_no_browser_runs(
    server_url: str, task_id: str, settings: Settings
) -> None:
    answer = httpx.get(f"{server_url}/api/v1/tasks/{task_id}/artifacts/page.html")
    if settings.payload_backend == "s3":
        assert answer.status_code == 307
        assert answer.headers["cache-control"] == "no-store"
        answer = httpx.get(answer.headers["location"])
    else:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox"
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'


def test_how_large_it_is_can_be_asked_without_fetching_it(server_url: str, task_id: str) -> None:
    """Where it is in S3, too, whose address is signed for GET alone."""
    answer = httpx.head(f"{server_url}/api/v1/tasks/{task_id}/artifacts/report.csv")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-length"] == "4"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{UNKNOWN}/artifacts", "task_not_found"),
        (f"{UNKNOWN}/artifacts/report.csv", "task_not_found"),
        ("nonsense/artifacts", "task_not_found"),
        ("nonsense/artifacts/report.csv", "task_not_found"),
        ("{task_id}/artifacts/other.csv", "artifact_not_found"),
        ("{task_id}/artifacts/..%2Freport.csv", "not_found"),
        ("{task_id}/artifacts/%00", "artifact_not_found"),
    ],
)
def test_what_is_not_there_is_not_found(
    server_url: str, task_id: str, path: str, code: str
) -> None:
    answer = httpx.get(f"{server_url}/api/v1/tasks/{path.format(task_id=task_id)}")
    assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_another_tenants_artifacts_are_as_good_as_unknown(app: TaskFlow, task_id: str) -> None:
    artifacts = app.runtime.artifacts
    assert len(artifacts.list("default", task_id)) == 2
    with pytest.raises(TaskNotFoundError):
        artifacts.list("rival", task_id)
    with pytest.raises(TaskNotFoundError):
        artifacts.get("rival", task_id, "report.csv")
    with pytest.raises(TaskNotFoundError):
        artifacts.find("rival", task_id, "report.csv")


def test_embedded_and_client_read_the_same(calls: TaskCalls, task_id: str) -> None:
    handle = calls.handle(task_id)
    assert [artifact.name for artifact in handle.artifacts()] == ["page.html", "report.csv"]
    assert handle.artifact("report.csv") == b"a,b\n"
    for name in ("other.csv", "../report.csv", "a/b?c#d"):
        with pytest.raises((ArtifactNotFoundError, TaskNotFoundError)):
            handle.artifact(name)
    with pytest.raises(TaskNotFoundError):
        calls.artifacts(UNKNOWN)
    with pytest.raises(TaskNotFoundError):
        calls.artifact("nonsense", "report.csv")


def test_a_task_that_left_nothing_has_an_empty_list(app: TaskFlow, server_url: str) -> None:
    handle = app.submit("leave", {})
    handle.result(timeout=30)
    with Client(server_url) as client:
        assert client.handle(handle.id).artifacts() == handle.artifacts() == []
