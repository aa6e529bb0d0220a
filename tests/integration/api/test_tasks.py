"""Looking at tasks, waiting for them, cancelling and running them again."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from taskflow.api.app import create_app
from taskflow.api.dependencies import Instance
from taskflow.bootstrap import Runtime
from taskflow.services.execution import Attempt
from tests.integration.api.conftest import (
    PATIENCE_SECONDS,
    MakeRuntime,
    connect,
    fields,
    problem,
    submit,
    work,
    works,
)


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/api/v1/tasks?{query}")
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["items"]]


@works
async def test_a_completed_task_has_its_result(client: httpx.AsyncClient, runtime: Runtime) -> None:
    task_id = await submit(client, "add", args=[2], kwargs={"b": 3})
    work(runtime)

    task = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    assert (task["status"], task["result"], task["attempt"]) == ("completed", 5, 1)
    assert task["error"] is None
    started, finished = task["started_at"], task["finished_at"]
    assert datetime.fromisoformat(started) <= datetime.fromisoformat(finished)


@works
async def test_a_failed_task_says_why(client: httpx.AsyncClient, runtime: Runtime) -> None:
    task_id = await submit(client, "fail", kwargs={"reason": "no such customer"})
    work(runtime)

    task = (await client.get(f"/api/v1/tasks/{task_id}")).json()
    assert (task["status"], task["result"]) == ("failed", None)
    assert task["error"]["type"] == "ValueError"
    assert task["error"]["message"] == "no such customer"
    assert task["error"]["classification"] == "permanent"
    assert "samples.py" in task["error"]["traceback"]


# --- waiting ----------------------------------------------------------------------------------------


@works
async def test_a_held_request_is_answered_when_the_task_ends(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    task_id = await submit(client, "echo", kwargs={"message": "done"})
    held = asyncio.create_task(client.get(f"/tasks/{task_id}?wait=30"))
    await asyncio.to_thread(work, runtime)

    task = (await asyncio.wait_for(held, 10)).json()
    assert (task["status"], task["result"]) == ("completed", "done")


async def test_a_held_request_is_answered_when_time_is_up(client: httpx.AsyncClient) -> None:
    task_id = await submit(client, "echo")

    answer = await client.get(f"/tasks/{task_id}?wait=0.01")
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")


async def test_nothing_waits_longer_than_the_setting_allows(make_runtime: MakeRuntime) -> None:
    async with connect(create_app(make_runtime(max_wait_seconds=0.01))) as client:
        task_id = await submit(client, "echo")
        answer = await asyncio.wait_for(client.get(f"/tasks/{task_id}?wait=1000"), 10)
    assert answer.json()["status"] == "pending"


async def test_held_requests_are_answered_when_the_instance_is_about_to_stop(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    instance: Instance = app.state.instance
    task_id = await submit(client, "echo")
    held = asyncio.create_task(client.get(f"/tasks/{task_id}?wait=30"))
    instance.draining.set()

    assert (await asyncio.wait_for(held, 10)).json()["status"] == "pending"


@pytest.mark.parametrize("query", ["wiat=20", "wait=1&wait=2", "wait=-1", "wait=nan"])
async def test_a_look_that_would_not_be_the_one_meant_is_refused(
    client: httpx.AsyncClient, query: str
) -> None:
    task_id = await submit(client, "echo")
    for path in (f"/tasks/{task_id}", f"/api/v1/tasks/{task_id}"):
        body = problem(await client.get(f"{path}?{query}"), 422, "invalid_request")
        assert fields(body) == [query.partition("=")[0]]


# --- lists ------------------------------------------------------------------------------------------


async def test_tasks_are_listed_newest_first_page_by_page(client: httpx.AsyncClient) -> None:
    made = [await submit(client, "echo") for _ in range(5)]

    pages, query = [], "limit=2"
    while True:
        page = (await client.get(f"/api/v1/tasks?{query}")).json()
        pages.append([task["task_id"] for task in page["items"]])
        if page["next_cursor"] is None:
            break
        query = f"limit=2&cursor={page['next_cursor']}"
    assert pages == [[made[4], made[3]], [made[2], made[1]], [made[0]]]


@works
async def test_lists_can_be_narrowed(client: httpx.AsyncClient, runtime: Runtime) -> None:
    done = await submit(client, "echo", name="Invoice 7", tags=["x"])
    failed = await submit(client, "fail", priority="low")
    work(runtime)
    waiting = await submit(client, "echo", tags=["x", "y"], priority=0)
    created = (await client.get(f"/tasks/{waiting}")).json()["created_at"]

    assert await ids(client) == [waiting, failed, done]
    assert await ids(client, "status=completed") == [done]
    assert await ids(client, "status=completed&status=failed") == [failed, done]
    assert await ids(client, "task=fail") == [failed]
    assert await ids(client, "priority=low") == [failed]
    assert await ids(client, "priority=0") == [waiting]
    assert await ids(client, "tag=x") == [waiting, done]
    assert await ids(client, "tag=x&status=pending") == [waiting]
    assert await ids(client, "q=nvoice") == [done]
    assert await ids(client, f"q={failed}") == [failed]
    assert await ids(client, "q=%25") == []  # a percent sign is no wildcard
    assert await ids(client, f"created_before={created}") == [failed, done]
    assert await ids(client, "created_after=2090-01-01T00:00:00Z") == []
    assert await ids(client, "created_after=1990-01-01T00:00:00%2B02:00") == [waiting, failed, done]


# --- by hand ----------------------------------------------------------------------------------------


@works
async def test_a_waiting_task_can_be_cancelled_once(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    task_id = await submit(client, "echo")

    cancelled = await client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert work(runtime) == 0
    again = await client.post(f"/api/v1/tasks/{task_id}/cancel")
    assert "cancelled" in problem(again, 409, "invalid_transition")["detail"]


@works
@pytest.mark.parametrize(("task", "status"), [("echo", "completed"), ("fail", "failed")])
async def test_a_final_task_can_be_run_anew(
    client: httpx.AsyncClient, runtime: Runtime, task: str, status: str
) -> None:
    task_id = await submit(client, task)
    problem(await client.post(f"/api/v1/tasks/{task_id}/retry"), 409, "invalid_transition")
    work(runtime)

    retried = await client.post(f"/api/v1/tasks/{task_id}/retry")
    assert (retried.status_code, retried.json()["status"]) == (200, "pending")
    assert work(runtime) == 1
    assert (await client.get(f"/tasks/{task_id}")).json()["status"] == status


@works
async def test_history_says_which_request_did_what_people_did(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    async def ask(path: str, **body: Any) -> None:
        name = path.rpartition("/")[2]
        answer = await client.post(path, json=body or None, headers={"X-Request-ID": f"the-{name}"})
        assert answer.status_code == 200, answer.text

    task_id = await submit(client, "fail")
    path = f"/api/v1/tasks/{task_id}"
    await ask(f"{path}/cancel")
    await ask(f"{path}/retry")
    started: list[Attempt] = []
    while not started:  # the message of what was cancelled comes, too
        deliveries = runtime.queue.dequeue(max_messages=10, timeout_seconds=PATIENCE_SECONDS)
        assert deliveries
        started = runtime.execution.start(deliveries)
    await ask(f"{path}/cancel")
    failed = await submit(client, "fail")
    work(runtime)
    await ask("/api/v1/dead-letters/redrive", task_ids=[failed])
    work(runtime)
    await ask("/api/v1/dead-letters/discard", all=True)

    async def by_hand(task_id: str) -> list[tuple[str, str]]:
        events = (await client.get(f"/api/v1/tasks/{task_id}/history")).json()["items"]
        return [(e["type"], e["data"]["request_id"]) for e in events if "request_id" in e["data"]]

    assert await by_hand(task_id) == [
        ("task.cancelled", "the-cancel"),
        ("task.redriven", "the-retry"),
        ("task.cancel_requested", "the-cancel"),
    ]
    assert await by_hand(failed) == [
        ("task.redriven", "the-redrive"),
        ("task.discarded", "the-discard"),
    ]


@works
async def test_history_tells_everything_in_order(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    task_id = await submit(client, "echo")
    work(runtime)
    path = f"/api/v1/tasks/{task_id}/history"

    whole = (await client.get(path)).json()
    assert [event["type"] for event in whole["items"]] == [
        "task.submitted",
        "task.started",
        "task.completed",
    ]
    assert whole["next_cursor"] is None
    first = (await client.get(f"{path}?limit=2")).json()
    rest = (await client.get(f"{path}?limit=2&cursor={first['next_cursor']}")).json()
    assert first["items"] + rest["items"] == whole["items"]
    assert rest["next_cursor"] is None
