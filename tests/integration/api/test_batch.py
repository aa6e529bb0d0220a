"""POST /tasks/batch: many submissions, one answer each."""

from __future__ import annotations

from typing import Any

import httpx

from taskflow.api.app import create_app
from tests.integration.api.conftest import MakeRuntime, connect, fields, problem

BATCH = "/api/v1/tasks/batch"


async def stored(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/api/v1/tasks?limit=200")).json()["items"]
    return items


async def test_every_submission_is_answered_in_its_place(client: httpx.AsyncClient) -> None:
    tasks = [
        {"task": "echo", "kwargs": {"message": "one"}},
        {"task": "ecko"},
        {"func_name": "add", "args": [1]},
        {"task": "add", "kwargs": {"a": "x"}},
        {"task": "echo", "delay": 1, "run_at": "2090-01-01T00:00:00Z"},
        {"task": "echo", "depends_on": ["0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"]},
    ]
    answer = await client.post(BATCH, json={"tasks": tasks})

    assert answer.status_code == 202
    items = answer.json()["items"]
    assert [item.get("code") for item in items] == [
        None,
        "unknown_task",
        None,
        "invalid_arguments",
        "invalid_request",
        "unknown_dependency",
    ]
    assert [item["errors"][0]["field"] for item in items if "code" in item] == [
        "task",
        "a",
        "delay",
        "depends_on",
    ]
    accepted = {item["task_id"] for item in items if "task_id" in item}
    assert {task["task_id"] for task in await stored(client)} == accepted
    assert [item["task"] for item in items if "task_id" in item] == ["echo", "add"]


async def test_a_thousand_at_once(client: httpx.AsyncClient) -> None:
    tasks = [{"task": "add", "args": [number]} for number in range(1_000)]
    answer = await client.post(BATCH, json={"tasks": tasks})

    items = answer.json()["items"]
    assert [item["status"] for item in items] == ["pending"] * 1_000
    newest = await stored(client)
    assert [task["args"] for task in newest] == [[number] for number in range(999, 799, -1)]


async def test_a_key_twice_in_a_batch_makes_one_task(client: httpx.AsyncClient) -> None:
    item = {"task": "echo", "idempotency_key": "k"}
    other = {"task": "echo", "kwargs": {"message": "other"}, "idempotency_key": "k"}
    items = (await client.post(BATCH, json={"tasks": [item, item, other]})).json()["items"]

    assert items[0]["task_id"] == items[1]["task_id"]
    assert [item.get("replayed") for item in items] == [False, True, None]
    assert items[2]["code"] == "idempotency_conflict"
    assert len(await stored(client)) == 1


async def test_one_key_for_a_whole_batch_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        BATCH, json={"tasks": [{"task": "echo"}]}, headers={"Idempotency-Key": "k"}
    )

    assert fields(problem(answer, 422, "invalid_request")) == ["Idempotency-Key"]
    assert await stored(client) == []


async def test_a_body_that_does_not_fit_is_refused_as_a_whole(client: httpx.AsyncClient) -> None:
    tasks = [{"task": "echo"}, {"task": "echo", "priority": 9}, {"kwargs": {}}]
    body = problem(await client.post(BATCH, json={"tasks": tasks}), 422, "invalid_request")

    assert fields(body) == ["tasks[1].priority", "tasks[2].task"]
    assert await stored(client) == []


async def test_the_size_of_a_batch_is_limited(make_runtime: MakeRuntime) -> None:
    async with connect(create_app(make_runtime(max_batch_size=2))) as client:
        for tasks in ([], [{"task": "echo"}] * 3):
            answer = await client.post(BATCH, json={"tasks": tasks})
            assert fields(problem(answer, 422, "invalid_request")) == ["tasks"]
        assert await stored(client) == []
        assert (await client.post(BATCH, json={"tasks": [{"task": "echo"}] * 2})).is_success


async def test_what_does_not_fit_into_the_queue_is_refused_item_by_item(
    make_runtime: MakeRuntime,
) -> None:
    async with connect(create_app(make_runtime(max_queue_size=2))) as client:
        items = (await client.post(BATCH, json={"tasks": [{"task": "echo"}] * 4})).json()["items"]
        assert [item.get("code") for item in items] == [None, None, "queue_full", "queue_full"]
        assert len(await stored(client)) == 2
