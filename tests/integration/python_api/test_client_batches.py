"""`submit_many` over HTTP, whatever the server takes in one request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskflow.app import TaskFlow
from taskflow.client import Client
from taskflow.client.batches import REQUEST_BYTES
from taskflow.core.errors import PayloadTooLargeError, TaskFlowError
from taskflow.core.registry import Registry
from taskflow.handle import TaskHandle
from tests.integration.python_api.conftest import serving
from tests.support.http_server import Received, Reply, http_server


@contextmanager
def a_client(home: Path, registry: Registry, **settings: Any) -> Iterator[Client]:
    """Of a server whose tasks wait."""
    with (
        TaskFlow(home=home, handlers=registry, num_workers=0, **settings) as app,
        serving(app) as url,
        Client(url, timeout=60) as client,
    ):
        yield client


def calls(values: list[Any]) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    return [("anything", (value,), {}) for value in values]


def values_of(handles: list[TaskHandle]) -> list[Any]:
    return [handle.task().args[0] for handle in handles]


def test_a_batch_larger_than_one_request_may_be_is_sent_in_several(
    home: Path, registry: Registry
) -> None:
    values = [str(n).ljust(17 * 1024, "x") for n in range(1_000)]
    with a_client(home, registry) as client:
        handles = client.submit_many(calls(values))
        assert len({handle.id for handle in handles}) == 1_000
        assert values_of(handles[::333]) == values[::333]


@pytest.mark.parametrize("settings", [{"max_batch_size": 7}, {"max_body_bytes": 2_048}])
def test_a_server_that_takes_less_gets_less(
    home: Path, registry: Registry, settings: dict[str, int]
) -> None:
    values = [f"value {n}" for n in range(100)]
    with a_client(home, registry, **settings) as client:
        for _ in range(2):  # the second time it is known
            assert values_of(client.submit_many(calls(values))) == values
        assert len(client.list(limit=200).items) == 200


def test_one_that_is_too_large_by_itself_is_refused_alone(home: Path, registry: Registry) -> None:
    with a_client(home, registry, max_body_bytes=2_048) as client:
        answers = client.submit_many(calls([1, "x" * 4_000, 3]), return_errors=True)
    assert [type(answer) for answer in answers] == [TaskHandle, PayloadTooLargeError, TaskHandle]


def test_something_in_front_of_the_server_may_allow_less() -> None:
    most = REQUEST_BYTES // 8

    def proxy(received: Received) -> Reply:
        if len(received.body) > most:
            return Reply(413, {"Content-Type": "text/html"}, b"<h1>Request Entity Too Large</h1>")
        items = [{"task_id": "t", "replayed": False} for _ in json.loads(received.body)["tasks"]]
        return Reply(202, body=json.dumps({"items": items}).encode())

    with http_server(proxy) as server, Client(server.url) as client:
        assert len(client.submit_many(calls(["x" * (most // 4)] * 50))) == 50


def test_what_is_wrong_with_a_request_is_not_tried_in_halves() -> None:
    wrong = {"code": "invalid_request", "errors": [{"field": "tasks[1].name", "message": "no"}]}
    with (
        http_server({"/api/v1/tasks/batch": Reply(422, body=json.dumps(wrong).encode())}) as server,
        Client(server.url) as client,
        pytest.raises(TaskFlowError),
    ):
        client.submit_many(calls([1, 2]))
    assert len(server.received) == 1
