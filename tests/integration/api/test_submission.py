"""POST /tasks: what is accepted, how, and that it is kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from taskflow.api.app import create_app
from taskflow.bootstrap import Runtime
from tests.integration.api.conftest import (
    MakeRuntime,
    connect,
    fields,
    problem,
    submit,
    work,
    works,
)

PATHS = ["/api/v1/tasks", "/tasks"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_accepted_task_is_named_and_can_be_looked_up(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.post(path, json={"task": "echo", "kwargs": {"message": "hi"}})

    assert answer.status_code == 202
    body = answer.json()
    assert (body["task"], body["status"], body["replayed"]) == ("echo", "pending", False)
    assert answer.headers["location"] == f"/api/v1/tasks/{body['task_id']}"
    found = (await client.get(f"{path}/{body['task_id']}")).json()
    assert found["kwargs"] == {"message": "hi"}
    assert found["created_at"] == body["created_at"]
    assert found["run_at"] == body["run_at"]
    assert found["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_name_may_have_what_people_write(client: httpx.AsyncClient, path: str) -> None:
    name = "👩‍💻 deploy"
    body = {"task": "echo", "name": name, "tags": [name], "idempotency_key": name}
    task_id = (await client.post(path, json=body)).raise_for_status().json()["task_id"]
    task = (await client.get(f"{path}/{task_id}")).json()
    assert (task["name"], task["tags"], task["idempotency_key"]) == (name, [name], name)
    found = await client.get("/api/v1/tasks", params={"tag": name, "q": name})
    assert [task["task_id"] for task in found.json()["items"]] == [task_id]


async def test_an_accepted_task_survives_the_process_that_accepted_it(
    client: httpx.AsyncClient, make_runtime: MakeRuntime
) -> None:
    task_id = await submit(client, "echo", kwargs={"message": "kept"})

    other = make_runtime()
    assert other.tasks.get("default", task_id).kwargs == {"message": "kept"}


@pytest.mark.parametrize(
    ("body", "args", "kwargs", "priority"),
    [
        (
            {"func_name": "add", "args": [1], "kwargs": {"b": 2}, "priority": 1},
            [1], {"b": 2}, 1,
        ),
        (
            {"name": "Sum", "task_type": "add", "payload": {"a": 1}, "priority": "high"},
            [], {"a": 1}, 1,
        ),
        ({"task": "add", "kwargs": {"a": 1}, "priority": "LOW"}, [], {"a": 1}, 3),
        ({"task": "add", "kwargs": {"a": 1}, "priority": 3.0, "max_retries": 2.0}, [], {"a": 1}, 3),
        ({"task": "add", "kwargs": {"a": 1}, "priority": "0"}, [], {"a": 1}, 0),
        ({"task": "add", "kwargs": {"a": 1}}, [], {"a": 1}, 1),  # the handler's own
        ({"task": "add", "kwargs": {"a": 1}, "priority": None}, [], {"a": 1}, 1),
    ],
)  # fmt: skip
async def test_every_spelling_of_a_body_means_the_same_task(
    client: httpx.AsyncClient,
    body: dict[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
    priority: int,
) -> None:
    answer = await client.post("/api/v1/tasks", json=body)

    assert answer.status_code == 202, answer.text
    task = (await client.get(answer.headers["location"])).json()
    assert (task["task"], task["args"], task["kwargs"]) == ("add", args, kwargs)
    assert task["priority"] == priority
    assert task["name"] == body.get("name")


@works
async def test_a_payload_goes_whole_to_a_handler_that_takes_payloads(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    task_id = await submit(client, "report", payload={"x": 1, "y": 2})

    work(runtime)
    assert (await client.get(f"/tasks/{task_id}")).json()["result"] == 2


async def test_options_of_a_submission_are_the_tasks(client: httpx.AsyncClient) -> None:
    first = await submit(client, "echo")
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    task_id = await submit(
        client,
        "echo",
        name="nightly",
        delay=3600,
        expires_at=expires.isoformat(),
        max_retries=9,
        timeout=1.5,
        tags=["a", "b"],
        metadata={"k": [1, {"n": None}]},
        depends_on=[first],
        idempotency_key="once",
    )

    task = (await client.get(f"/tasks/{task_id}")).json()
    assert task["status"] == "blocked"
    assert (task["name"], task["max_retries"], task["timeout"]) == ("nightly", 9, 1.5)
    assert (task["tags"], task["metadata"]) == (["a", "b"], {"k": [1, {"n": None}]})
    assert (task["depends_on"], task["idempotency_key"]) == ([first], "once")
    assert datetime.fromisoformat(task["expires_at"]) == expires
    waits = datetime.fromisoformat(task["run_at"]) - datetime.fromisoformat(task["created_at"])
    assert waits == timedelta(hours=1)


async def test_run_at_is_a_moment_in_any_time_zone(client: httpx.AsyncClient) -> None:
    task_id = await submit(client, "echo", run_at="2090-01-01T10:00:00+02:00")

    task = (await client.get(f"/tasks/{task_id}")).json()
    assert (task["status"], task["run_at"]) == ("scheduled", "2090-01-01T08:00:00Z")


# --- what does not fit the handler ---------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_task_is_refused_with_the_names_that_come_close(
    client: httpx.AsyncClient, path: str
) -> None:
    body = problem(await client.post(path, json={"task": "ecko"}), 422, "unknown_task")

    assert fields(body) == ["task"]
    assert "'echo'" in body["detail"]


@pytest.mark.parametrize(
    ("kwargs", "field", "word"),
    [
        ({}, "a", "missing"),
        ({"a": "x"}, "a", "integer"),
        ({"a": 1, "c": 2}, "c", "not an argument"),
    ],
)
async def test_wrong_arguments_are_refused_naming_the_field(
    client: httpx.AsyncClient, kwargs: dict[str, Any], field: str, word: str
) -> None:
    answer = await client.post("/api/v1/tasks", json={"task": "add", "kwargs": kwargs})

    body = problem(answer, 422, "invalid_arguments")
    [error] = body["errors"]
    assert error["field"] == field
    assert word in error["message"]
    assert (await client.get("/api/v1/tasks")).json()["items"] == []


async def test_too_many_positional_arguments_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/tasks", json={"task": "add", "args": [1, 2, 3]})

    assert fields(problem(answer, 422, "invalid_arguments")) == ["args[2]"]


async def test_an_unknown_dependency_is_a_wrong_field_not_a_missing_page(
    client: httpx.AsyncClient,
) -> None:
    unknown = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
    answer = await client.post("/api/v1/tasks", json={"task": "echo", "depends_on": [unknown]})

    body = problem(answer, 422, "unknown_dependency")
    assert fields(body) == ["depends_on"]
    assert unknown in body["detail"]


# --- once is once ----------------------------------------------------------------------------------


@works
async def test_a_repeated_key_gets_the_first_task_with_its_result(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    body = {"task": "echo", "kwargs": {"message": "once"}}
    first = await client.post("/tasks", json=body, headers={"Idempotency-Key": "k-1"})
    work(runtime)
    again = await client.post("/tasks", json=body, headers={"Idempotency-Key": "k-1"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["task_id"] == first.json()["task_id"]
    assert (again.json()["status"], again.json()["result"]) == ("completed", "once")
    assert work(runtime) == 0


async def test_the_key_may_come_as_header_or_in_the_body(client: httpx.AsyncClient) -> None:
    body = {"task": "echo"}
    first = await client.post("/tasks", json=body, headers={"Idempotency-Key": "same"})
    again = await client.post("/tasks", json={**body, "idempotency_key": "same"})

    assert again.status_code == 200
    assert again.json()["task_id"] == first.json()["task_id"]


async def test_a_key_with_another_request_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k-2"}
    await client.post("/tasks", json={"task": "add", "kwargs": {"a": 1}}, headers=headers)
    answer = await client.post("/tasks", json={"task": "add", "kwargs": {"a": 2}}, headers=headers)

    assert fields(problem(answer, 422, "idempotency_conflict")) == ["idempotency_key"]


async def test_two_different_keys_in_one_request_are_refused(client: httpx.AsyncClient) -> None:
    body = {"task": "echo", "idempotency_key": "one"}
    answer = await client.post("/tasks", json=body, headers={"Idempotency-Key": "other"})

    assert fields(problem(answer, 422, "invalid_request")) == ["idempotency_key"]


async def test_a_key_is_the_same_in_header_and_body_whatever_its_letters(
    client: httpx.AsyncClient,
) -> None:
    headers = [(b"Idempotency-Key", "Bestellung-ü-订单".encode())]
    first = await client.post("/tasks", json={"task": "echo"}, headers=headers)
    again = await client.post(
        "/tasks", json={"task": "echo", "idempotency_key": "Bestellung-ü-订单"}
    )

    assert again.json()["task_id"] == first.json()["task_id"]


@pytest.mark.parametrize("keys", [[b"one", b"other"], [b"\xfc"]], ids=["two", "not UTF-8"])
async def test_a_key_that_could_mean_anything_is_refused(
    client: httpx.AsyncClient, keys: list[bytes]
) -> None:
    headers = [(b"Idempotency-Key", key) for key in keys]
    answer = await client.post("/tasks", json={"task": "echo"}, headers=headers)

    assert fields(problem(answer, 422, "invalid_request")) == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_an_impossible_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/tasks", json={"task": "echo"}, headers={"Idempotency-Key": key})

    assert fields(problem(answer, 422, "invalid_request")) == ["idempotency_key"]


async def test_fifty_at_once_with_one_key_make_one_task(client: httpx.AsyncClient) -> None:
    body = {"task": "echo", "kwargs": {"message": "x"}, "idempotency_key": "crowd"}
    answers = await asyncio.gather(*(client.post("/api/v1/tasks", json=body) for _ in range(50)))

    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert len((await client.get("/api/v1/tasks")).json()["items"]) == 1


# --- bounded ----------------------------------------------------------------------------------------


@works
async def test_a_full_queue_refuses_with_the_time_to_come_back(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_queue_size=3)
    async with connect(create_app(runtime)) as client:
        accepted = [await submit(client, "echo") for _ in range(3)]

        answer = await client.post("/api/v1/tasks", json={"task": "echo"})
        body = problem(answer, 429, "queue_full")
        assert "TASKFLOW_MAX_QUEUE_SIZE" in body["detail"]
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get("/api/v1/metrics")).json()["totals"]["rejected"] == 1
        listed = (await client.get("/api/v1/tasks")).json()["items"]
        assert {task["task_id"] for task in listed} == set(accepted)

        work(runtime)
        await submit(client, "echo")


@works
async def test_arguments_over_the_inline_limit_are_kept_too(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(inline_payload_bytes=100)
    message = "long " * 100
    async with connect(create_app(runtime)) as client:
        task_id = await submit(client, "echo", kwargs={"message": message})
        work(runtime)

        task = (await client.get(f"/tasks/{task_id}")).json()
    url = task["result_url"]  # S3 hands a large result out itself
    async with httpx.AsyncClient() as plain:
        result = task["result"] if url is None else (await plain.get(url)).json()
    assert (task["kwargs"], result) == ({"message": message}, message)
