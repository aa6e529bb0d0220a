"""What a client may not send. Every case: a problem of the 400s that says what is wrong, and nothing is stored."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from taskflow.api.app import create_app
from taskflow.bootstrap import build
from taskflow.settings import load
from tests.integration.api.conftest import MakeRuntime, connect, fields, problem
from tests.integration.api.samples import sample_registry

JSON = {"Content-Type": "application/json"}
SUBMIT_PATHS = ["/api/v1/tasks", "/tasks", "/api/v1/tasks/batch", "/api/v1/dead-letters/redrive"]


@pytest.fixture(scope="module")
def app(empty_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """One for all: it stays as empty as it was."""
    home = shutil.copytree(empty_home, tmp_path_factory.mktemp("bad") / "home")
    runtime = build(load(home=home), registry=sample_registry(), with_worker=True)
    yield create_app(runtime)
    runtime.close()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Checks after every test that nothing was stored."""
    async with connect(app) as client:
        yield client
        stored = (await client.get("/api/v1/tasks")).json()
        assert stored == {"items": [], "next_cursor": None}


def keeping(value: bytes) -> bytes:
    """A submission that would be fine but for ``value``."""
    return b'{"task": "keep", "kwargs": {"value": ' + value + b"}}"


NOT_JSON = {
    "empty object cut short": b"{",
    "nothing": b"   ",
    "text": b"hello",
    "trailing comma": b'{"task": "echo",}',
    "two values": b"{} {}",
    "single quotes": b"{'task': 'echo'}",
    "not UTF-8": b'{"task": "\xff\xfe"}',
    "UTF-16": '{"task": "echo"}'.encode("utf-16"),
    "form": b"task=echo",
    "NaN": keeping(b"NaN"),
    "Infinity": keeping(b"Infinity"),
    "-Infinity": keeping(b"-Infinity"),
    "too large for a double": keeping(b"1e999"),
    "NUL": keeping(rb'"a\u0000b"'),
    "NUL in a key": keeping(rb'{"a\u0000": 1}'),
    "lone high surrogate": keeping(rb'"\ud800"'),
    "lone low surrogate": keeping(rb'["\uDFFF"]'),
    "surrogate bytes": keeping(b'"\xed\xa0\x80"'),
    "integer over 64 bit": keeping(b"9223372036854775808"),
    "integer under 64 bit": keeping(b"-9223372036854775809"),
    "five thousand digits": keeping(b"1" * 5_000),
    "65 levels": keeping(b"[" * 63 + b"]" * 63),
    "objects in objects": keeping(b'{"a":' * 70 + b"1" + b"}" * 70),
    "a hundred thousand levels": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.mark.parametrize("path", SUBMIT_PATHS)
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json_that_can_be_kept_is_refused(
    client: httpx.AsyncClient, path: str, body: bytes
) -> None:
    problem(await client.post(path, content=body, headers=JSON), 400, "invalid_json")


async def test_the_place_of_what_cannot_be_kept_is_named(client: httpx.AsyncClient) -> None:
    content = keeping(rb'{"list": [1, {"deep": "a\u0000b"}]}')
    body = problem(await client.post("/tasks", content=content, headers=JSON), 400, "invalid_json")

    assert fields(body) == ["kwargs.value.list[1].deep"]


@pytest.mark.parametrize(
    "body",
    [
        keeping(b"9223372036854775807"),
        keeping(b"-9223372036854775808"),
        keeping(b"[" * 62 + b"]" * 62),
        keeping(rb'"\ud83d\ude00"'),
    ],
    ids=["largest integer", "smallest integer", "64 levels", "a surrogate pair"],
)
async def test_the_largest_that_can_be_kept_is_accepted(
    make_runtime: MakeRuntime, body: bytes
) -> None:
    async with connect(create_app(make_runtime())) as client:
        answer = await client.post("/tasks", content=body, headers=JSON)
        assert answer.status_code == 202
        kept = (await client.get(answer.headers["location"])).json()["kwargs"]
    assert kept == orjson.loads(body)["kwargs"]


@pytest.mark.parametrize("path", SUBMIT_PATHS)
@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_json_has_to_be_sent_as_json(
    client: httpx.AsyncClient, path: str, given: str | None
) -> None:
    headers = {"Content-Type": given} if given else {}
    answer = await client.post(path, content=b'{"task": "echo"}', headers=headers)

    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("path", [*SUBMIT_PATHS, "/api/v1/tasks/batch"])
async def test_a_body_has_to_be_sent_as_it_is(client: httpx.AsyncClient, path: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await client.post(path, content=gzip.compress(b'{"task": "echo"}'), headers=headers)

    found = problem(answer, 415, "unsupported_media_type")
    assert found["detail"] == "send the body as it is, not Content-Encoding: gzip"


@pytest.mark.parametrize(
    "given", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"]
)
async def test_json_may_be_called_by_its_other_names(make_runtime: MakeRuntime, given: str) -> None:
    async with connect(create_app(make_runtime())) as client:
        content, headers = b'{"task": "echo"}', {"Content-Type": given}
        assert (await client.post("/tasks", content=content, headers=headers)).status_code == 202


WRONG_FIELDS: list[tuple[Any, list[str]]] = [
    ({}, ["task"]),
    ([], ["body"]),
    ("echo", ["body"]),
    ({"task": 1}, ["task"]),
    ({"task": ""}, ["task"]),
    ({"task": "x" * 201}, ["task"]),
    ({"task": "echo", "func_name": "echo"}, ["func_name"]),
    ({"task": "echo", "kwargs": {}, "payload": {}}, ["payload"]),
    ({"task": "echo", "args": "abc"}, ["args"]),
    ({"task": "echo", "args": {"0": 1}}, ["args"]),
    ({"task": "echo", "kwargs": []}, ["kwargs"]),
    ({"task": "echo", "payload": "text"}, ["payload"]),
    ({"task": "echo", "prioritty": 1}, ["prioritty"]),
    ({"task": "echo", "priority": 4}, ["priority"]),
    ({"task": "echo", "priority": -1}, ["priority"]),
    ({"task": "echo", "priority": True}, ["priority"]),
    ({"task": "echo", "priority": "urgent"}, ["priority"]),
    ({"task": "echo", "priority": 1.5}, ["priority"]),
    ({"task": "echo", "priority": [1]}, ["priority"]),
    ({"task": "echo", "delay": -1}, ["delay"]),
    ({"task": "echo", "delay": "5"}, ["delay"]),
    ({"task": "echo", "delay": 1e300}, ["delay"]),
    ({"task": "echo", "delay": 1, "run_at": "2090-01-01T00:00:00Z"}, ["delay"]),
    ({"task": "echo", "run_at": "2090-01-01"}, ["run_at"]),
    ({"task": "echo", "run_at": "2090-01-01T00:00:00"}, ["run_at"]),
    ({"task": "echo", "run_at": "2090-02-31T00:00:00Z"}, ["run_at"]),
    ({"task": "echo", "run_at": "0001-01-01T00:00:00+14:00"}, ["run_at"]),
    ({"task": "echo", "run_at": 1_700_000_000}, ["run_at"]),
    ({"task": "echo", "expires_in": 1, "expires_at": "2090-01-01T00:00:00Z"}, ["expires_in"]),
    ({"task": "echo", "max_retries": -1}, ["max_retries"]),
    ({"task": "echo", "max_retries": 1.5}, ["max_retries"]),
    ({"task": "echo", "max_retries": True}, ["max_retries"]),
    ({"task": "echo", "max_retries": 1_001}, ["max_retries"]),
    ({"task": "echo", "timeout": 0}, ["timeout"]),
    ({"task": "echo", "timeout": 10**9}, ["timeout"]),
    ({"task": "echo", "tags": "a"}, ["tags"]),
    ({"task": "echo", "tags": ["ok", ""]}, ["tags[1]"]),
    ({"task": "echo", "tags": ["a"] * 33}, ["tags"]),
    ({"task": "echo", "tags": ["line\nbreak"]}, ["tags[0]"]),
    ({"task": "echo", "name": "\x9b31m"}, ["name"]),
    ({"task": "echo", "metadata": [1]}, ["metadata"]),
    ({"task": "echo", "depends_on": ["not-an-id"]}, ["depends_on[0]"]),
    ({"task": "echo", "idempotency_key": "x" * 256}, ["idempotency_key"]),
    ({"task": "echo", "name": 5, "tags": 5}, ["name", "tags"]),
]


@pytest.mark.parametrize("path", ["/api/v1/tasks", "/tasks"])
@pytest.mark.parametrize(
    ("body", "wrong"),
    WRONG_FIELDS,
    ids=[orjson.dumps(body)[:60].decode() for body, _ in WRONG_FIELDS],
)
async def test_wrong_fields_are_refused_by_name(
    client: httpx.AsyncClient, path: str, body: Any, wrong: list[str]
) -> None:
    assert fields(problem(await client.post(path, json=body), 422, "invalid_request")) == wrong


@pytest.mark.parametrize("path", SUBMIT_PATHS)
@pytest.mark.parametrize("content", [b"", b"null"])
@pytest.mark.parametrize("headers", [JSON, {}], ids=["json", "no content type"])
async def test_a_missing_body_is_refused(
    client: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str]
) -> None:
    answer = await client.post(path, content=content, headers=headers)
    if content and not headers:
        problem(answer, 415, "unsupported_media_type")
    else:
        problem(answer, 422, "invalid_request")


async def test_what_was_sent_is_not_repeated_in_the_problem(client: httpx.AsyncClient) -> None:
    body = {"task": "add", "kwargs": {"a": "a-secret-value"}, "priority": "another-secret"}
    answer = await client.post("/tasks", json=body)
    assert "secret" not in answer.text
    del body["priority"]
    assert "secret" not in (await client.post("/tasks", json=body)).text


@pytest.mark.parametrize("field", ["kwargs", "metadata"])
async def test_what_one_task_may_carry_is_limited(make_runtime: MakeRuntime, field: str) -> None:
    async with connect(create_app(make_runtime(max_payload_bytes=1024))) as client:
        body = {"task": "keep", "kwargs": {"value": ""}, "metadata": {}}
        body[field] = {"value": "x" * 2_000}
        answer = await client.post("/api/v1/tasks", json=body)
        assert "TASKFLOW_MAX_PAYLOAD_BYTES" in problem(answer, 413, "payload_too_large")["detail"]
        assert (await client.get("/api/v1/tasks")).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("status=done", "status[0]"),
        ("priority=9", "priority"),
        ("created_after=yesterday", "created_after"),
        ("created_after=1700000000", "created_after"),
        ("statu=failed", "statu"),
        ("q=%00", "q"),
        ("task=a%00b", "task"),
        ("tag=", "tag"),
        ("cursor=%00", "cursor"),
        ("tag=a&tag=b", "tag"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_wrong_filters_are_refused_by_name(
    client: httpx.AsyncClient, query: str, wrong: str
) -> None:
    answer = await client.get(f"/api/v1/tasks?{query}")
    assert fields(problem(answer, 422, "invalid_request")) == [wrong]


async def test_what_is_wrong_is_told_in_words_for_who_sent_it(client: httpx.AsyncClient) -> None:
    sent = {"task_type": "echo", "func_name": "echo", "prio": 1, "kwargs": [], "name": "a\n"}
    whole = problem(await client.post("/tasks", json=[]), 422, "invalid_request")
    body = problem(await client.post("/tasks", json=sent), 422, "invalid_request")

    assert whole["errors"] == [{"field": "body", "message": "must be an object"}]
    assert {error["field"]: error["message"] for error in body["errors"]} == {
        "task_type": "is not known, or is another word for a field that is given, too",
        "prio": "is not known, or is another word for a field that is given, too",
        "kwargs": "must be an object",
        "name": "has characters that are not allowed",
    }


async def test_an_offset_whose_plus_became_a_blank_is_told_how_to_write_it(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/api/v1/tasks?created_after=2030-01-01T00:00:00+02:00")
    assert "+ of an offset is %2B" in problem(answer, 422, "invalid_request")["detail"]


async def test_a_cursor_of_somewhere_else_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/tasks?cursor=eyJpZCI6MX0")
    assert fields(problem(answer, 422, "invalid_cursor")) == ["cursor"]


@pytest.mark.parametrize(
    "task_id",
    [
        "1",
        "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11",
        "0199A3C1-5E2F-7A41-9C1D-0F6F6B8F2C11",
        "%00",
        "..%2f..%2fetc",
        "%ff%fe",
        "x" * 5_000,
        "' OR 1=1 --",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/tasks/{}"),
        ("GET", "/tasks/{}"),
        ("GET", "/api/v1/tasks/{}?wait=1"),
        ("GET", "/api/v1/tasks/{}/history"),
        ("POST", "/api/v1/tasks/{}/cancel"),
        ("POST", "/api/v1/tasks/{}/retry"),
    ],
)
async def test_an_id_that_is_nobodys_is_not_found(
    client: httpx.AsyncClient, method: str, path: str, task_id: str
) -> None:
    answer = await client.request(method, path.format(task_id))
    assert answer.status_code == 404
    assert answer.json()["code"] in ("task_not_found", "not_found")


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "soon"])
async def test_an_impossible_wait_is_refused(client: httpx.AsyncClient, wait: str) -> None:
    path = f"/api/v1/tasks/0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11?wait={wait}"
    assert fields(problem(await client.get(path), 422, "invalid_request")) == ["wait"]
