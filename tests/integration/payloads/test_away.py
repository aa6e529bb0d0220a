"""While S3 is away, tasks are still shown: without what is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import PayloadMissingError, StoreUnavailableError
from tests.integration.payloads.conftest import Bucket
from tests.integration.payloads.test_result_url import app_with
from tests.integration.python_api.conftest import serving
from tests.support import aws
from tests.support.aws_proxy import AwsProxy, aws_proxy

LARGE = "x" * 200


@pytest.fixture
def proxy(emulator_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsProxy]:
    with aws_proxy(emulator_url) as proxy:
        for name, value in aws.environment(proxy.url).items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def app(proxy: AwsProxy, bucket: Bucket, tmp_path: Path) -> Iterator[TaskFlow]:
    settings = {"payload_backend": "s3", "s3_bucket": bucket.name}
    with app_with(tmp_path, inline_payload_bytes=100, **settings) as app:
        yield app


def test_tasks_are_shown_without_what_is_in_s3(app: TaskFlow, proxy: AwsProxy) -> None:
    handle = app.submit("repeat", LARGE)
    assert handle.result(timeout=20) == LARGE
    with serving(app) as url, proxy.unreachable(), httpx.Client(timeout=60) as client:
        shown = client.get(f"{url}/api/v1/tasks/{handle.id}").json()
        [listed] = client.get(f"{url}/api/v1/tasks").json()["items"]
        for task in (shown, listed):
            assert (task["task_id"], task["status"]) == (handle.id, "completed")
            assert (task["args"], task["kwargs"]) == (None, None)
            assert task["result_url"].startswith(proxy.url)
    [task] = app.list().items
    assert task.args == [LARGE]


def test_tasks_are_shown_when_s3_goes_away_while_what_is_missing_is_looked_for(
    app: TaskFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = app.submit("repeat", LARGE)
    handle.wait(20)
    errors = iter([PayloadMissingError("one of them is gone"), StoreUnavailableError("S3 is away")])

    def get(_keys: object) -> None:
        raise next(errors)

    monkeypatch.setattr(app.runtime.payloads, "get", get)
    [task] = app.list().items
    assert (task.task_id, task.args, task.kwargs) == (handle.id, None, None)
    assert list(errors) == []


def test_a_result_that_cannot_be_read_now_is_no_result_of_none(
    app: TaskFlow, proxy: AwsProxy
) -> None:
    handle = app.submit("repeat", LARGE)
    handle.wait(20)
    with proxy.unreachable(), pytest.raises(StoreUnavailableError, match="S3"):
        handle.result(timeout=60)
    assert handle.result(timeout=20) == LARGE
