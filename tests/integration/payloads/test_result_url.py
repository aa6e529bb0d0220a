"""Large results in S3: over HTTP as an address, for everybody else as the value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskflow.app import TaskFlow
from taskflow.client import Client
from taskflow.core.errors import PayloadCorruptError, PayloadMissingError
from taskflow.core.registry import Registry, TaskOptions
from tests.integration.payloads.conftest import Bucket
from tests.integration.python_api.conftest import serving

LARGE = "ä" * 200


def app_with(home: Path, **settings: Any) -> TaskFlow:
    registry = Registry()

    def repeat(text: str) -> str:
        return text

    registry.add(repeat, declared=TaskOptions())
    return TaskFlow(home=home, handlers=registry, num_workers=1, **settings)


@pytest.fixture
def app(bucket: Bucket, tmp_path: Path) -> Iterator[TaskFlow]:
    settings = {"payload_backend": "s3", "s3_bucket": bucket.name, "s3_prefix": "tf"}
    with app_with(tmp_path, inline_payload_bytes=100, result_url_seconds=60, **settings) as app:
        yield app


@pytest.fixture
def client(app: TaskFlow) -> Iterator[Client]:
    with serving(app) as url, Client(url) as client:
        yield client


def test_over_http_a_large_result_is_an_address_that_works_for_a_while(
    app: TaskFlow, client: Client
) -> None:
    handle = app.submit("repeat", LARGE)
    assert handle.result(timeout=20) == LARGE
    [listed] = httpx.get(f"{client.url}/api/v1/tasks").json()["items"]
    for task in (
        httpx.get(f"{client.url}/api/v1/tasks/{handle.id}").json(),
        httpx.get(f"{client.url}/api/v1/tasks/{handle.id}", params={"wait": 1}).json(),
        listed,
    ):
        assert task["result"] is None
        assert task["args"] == [LARGE]
        url = httpx.URL(task["result_url"])
        assert url.params["X-Amz-Expires"] == "60"
        answer = httpx.get(url)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == LARGE


def test_the_address_is_signed_for_where_clients_reach_s3(
    bucket: Bucket, emulator_url: str, tmp_path: Path
) -> None:
    """As in docker-compose.yml, where the server's name for it means nothing on the host."""
    public = emulator_url.replace("127.0.0.1", "localhost")
    settings = {"payload_backend": "s3", "s3_bucket": bucket.name, "inline_payload_bytes": 100}
    with (
        app_with(tmp_path, **settings, s3_public_endpoint_url=public) as app,
        serving(app) as url,
    ):
        handle = app.submit("repeat", LARGE)
        assert handle.result(timeout=20) == LARGE  # read where the server reaches it
        address = httpx.get(f"{url}/api/v1/tasks/{handle.id}").json()["result_url"]
    assert public != emulator_url
    assert address.startswith(f"{public}/{bucket.name}/")
    assert httpx.get(address).json() == LARGE


def test_the_same_request_again_is_answered_with_the_address(app: TaskFlow, client: Client) -> None:
    handle = app.options(idempotency_key="once").submit("repeat", LARGE)
    handle.wait(20)
    body = {"task": "repeat", "args": [LARGE], "idempotency_key": "once"}
    answer = httpx.post(f"{client.url}/api/v1/tasks", json=body)
    assert answer.status_code == 200
    assert httpx.get(answer.json()["result_url"]).json() == LARGE


async def test_a_client_gets_the_value_without_knowing_where_it_was(client: Client) -> None:
    handle = client.submit("repeat", LARGE)
    assert handle.result(timeout=20) == LARGE
    assert handle.task().result == LARGE
    assert await client.submit("repeat", LARGE).result_async(20) == LARGE


def test_a_small_result_has_no_address(client: Client) -> None:
    handle = client.submit("repeat", "small")
    assert handle.result(timeout=20) == "small"
    assert handle.task().result_url is None


def test_on_files_results_of_any_size_come_with_the_task(tmp_path: Path) -> None:
    with (
        app_with(tmp_path, inline_payload_bytes=100) as app,
        serving(app) as url,
        Client(url) as client,
    ):
        handle = client.submit("repeat", LARGE)
        assert handle.result(timeout=20) == LARGE
        task = httpx.get(f"{url}/api/v1/tasks/{handle.id}").json()
        assert (task["result"], task["result_url"]) == (LARGE, None)


def test_a_result_that_is_gone_or_was_replaced_is_an_error_for_the_client_too(
    client: Client, bucket: Bucket
) -> None:
    handle = client.submit("repeat", LARGE)
    handle.wait(20)
    [key] = [key for key in bucket.objects() if "/result/" in key]
    metadata = bucket.s3.head_object(Bucket=bucket.name, Key=key)["Metadata"]
    bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=b'"forged"', Metadata=metadata)
    with pytest.raises(PayloadCorruptError):
        handle.result(timeout=20)
    bucket.s3.delete_object(Bucket=bucket.name, Key=key)
    with pytest.raises(PayloadMissingError) as raised:
        handle.result(timeout=20)
    assert "X-Amz" not in str(raised.value)
