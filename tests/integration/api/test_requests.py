"""What surrounds every request: ids, log lines, problems, CORS, the documentation pages."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from taskflow.api.app import create_app
from taskflow.bootstrap import Runtime
from taskflow.core import errors as core_errors
from taskflow.core.errors import StoreFullError, TaskFlowError
from taskflow.core.ids import is_uuid
from taskflow.logs import LogEvent
from tests.integration.api.conftest import MakeRuntime, connect, problem, submit

NOT_FOR_CLIENTS = {
    "attempt_cancelled", "attempt_failed", "attempt_timeout", "backup_invalid", "dependency_failed",
    "handler_exited", "invalid_configuration", "invalid_registration", "invalid_result", "lease_lost",
    "no_active_app", "result_timeout", "server_unavailable", "task_failed", "timeout_too_long", "worker_crashed",
}  # fmt: skip


def requests_logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    events = [(record.levelname, record.msg) for record in caplog.records]
    return [
        (level, dict(event.fields))
        for level, event in events
        if isinstance(event, LogEvent) and event.event == "http.request"
    ]


# --- ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "0123-abc_DEF.9", "x" * 128])
async def test_a_valid_request_id_is_taken_over(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.post(
        "/api/v1/tasks", json={"task": "echo"}, headers={"X-Request-ID": given}
    )
    assert answer.headers["x-request-id"] == given
    task = (await client.get(answer.headers["location"])).json()
    assert task["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "ä", "<script>", "a/b", "{x}"])
async def test_any_other_request_id_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    headers = [(b"X-Request-ID", given.encode())]
    answer = await client.get("/health", headers=headers)
    assert is_uuid(answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/nowhere"), ("PUT", "/tasks"), ("GET", "/docs"), ("POST", "/tasks")],
)
async def test_every_answer_carries_an_id_of_its_own(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    answers = [await client.request(method, path) for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


# --- log lines --------------------------------------------------------------------------------------


async def test_a_request_is_one_log_line_with_its_duration(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    task_id = await submit(client, "echo", kwargs={"message": "private"})
    caplog.set_level(logging.INFO, "taskflow.api")
    await client.get(f"/api/v1/tasks/{task_id}?wait=0")

    [(level, fields)] = requests_logged(caplog)
    assert level == "INFO"
    assert fields.pop("duration_ms") >= 0
    assert fields == {
        "method": "GET",
        "path": f"/api/v1/tasks/{task_id}",  # without the query
        "route": "/api/v1/tasks/{task_id}",
        "status": 200,
        "tenant_id": "default",
        "task_id": task_id,
    }


async def test_what_is_polled_is_logged_at_debug_only(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "taskflow.api")
    for path in ("/health", "/health/live", "/health/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200

    assert [level for level, _ in requests_logged(caplog)] == ["DEBUG"] * 4


# --- problems ---------------------------------------------------------------------------------------


async def test_unknown_paths_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v2/tasks"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/tasks", {"GET", "HEAD", "POST"}),
        ("GET", "/tasks", {"POST"}),
        ("HEAD", "/tasks", {"POST"}),
        ("DELETE", "/health", {"GET", "HEAD"}),
        ("PUT", "/api/v1/tasks/batch", {"GET", "HEAD", "POST"}),
        ("DELETE", "/docs", {"GET", "HEAD"}),
        ("PUT", "/docs/assets/favicon.png", {"GET", "HEAD"}),
    ],
)
async def test_other_methods_are_problems_that_name_the_possible_ones(
    client: httpx.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    if method != "HEAD":
        problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/health", "/api/v1/tasks?limit=1", "/metrics", "/docs", "/nope"])
async def test_head_is_answered_as_get_without_the_body(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    caplog.set_level(logging.DEBUG)
    whole, head = await client.get(path), await client.head(path)

    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert is_uuid(head.headers["x-request-id"])
    of_get, of_head = (fields for _, fields in requests_logged(caplog))
    assert (of_head["method"], of_head["route"]) == ("HEAD", of_get["route"])


async def test_what_nobody_expected_is_answered_without_details(
    app: FastAPI,
    runtime: Runtime,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(runtime.tasks, "get", explode)
    async with connect(app) as client:
        answer = await client.get("/tasks/0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11")

    problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    [(level, fields)] = requests_logged(caplog)
    assert (level, fields["status"]) == ("WARNING", 500)
    [failure] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert failure.exc_info is not None
    assert str(failure.exc_info[1]) == "password=hunter2"


async def test_a_store_that_cannot_write_is_503_and_worth_another_try(
    app: FastAPI, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise StoreFullError("the disk is full", retry_after_seconds=4.2)

    monkeypatch.setattr(runtime.submissions, "submit_async", full)
    async with connect(app) as client:
        answer = await client.post("/tasks", json={"task": "echo"})

    problem(answer, 503, "store_full")
    assert answer.headers["retry-after"] == "5"


def test_every_error_code_is_either_mapped_or_known_not_to_reach_clients() -> None:
    from taskflow.api.errors import PROBLEMS

    codes = {
        kind.code
        for kind in vars(core_errors).values()
        if isinstance(kind, type) and issubclass(kind, TaskFlowError)
    }
    assert codes - PROBLEMS.keys() == NOT_FOR_CLIENTS


# --- CORS -------------------------------------------------------------------------------------------


async def test_browsers_are_let_in_only_from_configured_origins(
    make_runtime: MakeRuntime,
) -> None:
    runtime = make_runtime(cors_origins=("https://shop.example",), max_body_bytes=1024)
    async with connect(create_app(runtime)) as client:
        asked = {
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,idempotency-key",
        }
        preflight = await client.options("/api/v1/tasks", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://shop.example"
        assert is_uuid(preflight.headers["x-request-id"])
        refused = await client.options(
            "/api/v1/tasks", headers={**asked, "Origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in refused.headers

        # Problems can be read by the page too, the very early ones included.
        origin = {"Origin": "https://shop.example"}
        for answer, code in (
            (await client.get("/nowhere", headers=origin), "not_found"),
            (
                await client.post("/tasks", content=b"x" * 2_000, headers=origin),
                "payload_too_large",
            ),
        ):
            assert answer.json()["code"] == code
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


async def test_without_configured_origins_no_page_is_let_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health", headers={"Origin": "https://shop.example"})
    assert "access-control-allow-origin" not in answer.headers


# --- documentation ----------------------------------------------------------------------------------


async def test_the_root_leads_to_the_documentation(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_documentation_pages_need_nothing_from_elsewhere(
    client: httpx.AsyncClient, page: str
) -> None:
    html = (await client.get(page)).text

    loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", html)
    assert any(path.endswith(".js") for path in loaded)
    assert "//" not in "".join(loaded)  # nothing from another host
    for path in loaded:
        asset = await client.get(path)
        assert asset.status_code == 200
        assert len(asset.content) > 1_000
    assert "/openapi.json" in html
    assert (await client.get("/openapi.json")).json()["openapi"].startswith("3.")
