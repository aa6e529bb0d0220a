"""The `traceparent` of a request: stored with its tasks, ignored when it is not valid."""

from __future__ import annotations

import httpx
import pytest

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
TASK = {"task": "add", "kwargs": {"a": 1, "b": 2}}


async def stored(client: httpx.AsyncClient, task_id: str) -> str | None:
    found: str | None = (await client.get(f"/api/v1/tasks/{task_id}")).json()["traceparent"]
    return found


async def test_it_belongs_to_the_task(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/tasks", json=TASK, headers={"traceparent": GOOD})
    assert await stored(client, answer.json()["task_id"]) == GOOD
    plain = await client.post("/api/v1/tasks", json=TASK)
    assert await stored(client, plain.json()["task_id"]) is None


@pytest.mark.parametrize("given", [GOOD.upper(), GOOD + "x", "00-0-0-00", ""])
async def test_one_that_is_not_valid_is_ignored(client: httpx.AsyncClient, given: str) -> None:
    answer = await client.post("/api/v1/tasks", json=TASK, headers={"traceparent": given})
    assert answer.status_code == 202
    assert await stored(client, answer.json()["task_id"]) is None


async def test_two_of_them_are_none(client: httpx.AsyncClient) -> None:
    headers = [("traceparent", GOOD), ("traceparent", OTHER)]
    answer = await client.post("/api/v1/tasks", json=TASK, headers=headers)
    assert await stored(client, answer.json()["task_id"]) is None


async def test_those_of_a_batch_may_have_their_own(client: httpx.AsyncClient) -> None:
    tasks = {"tasks": [TASK, {**TASK, "traceparent": OTHER}]}
    answer = await client.post("/api/v1/tasks/batch", json=tasks, headers={"traceparent": GOOD})
    ids = [item["task_id"] for item in answer.json()["items"]]
    assert [await stored(client, task_id) for task_id in ids] == [GOOD, OTHER]


async def test_in_a_body_it_has_to_be_right(client: httpx.AsyncClient) -> None:
    for wrong in ("garbage", f"00-{'0' * 32}-b7ad6b7169203331-01"):
        answer = await client.post("/api/v1/tasks", json={**TASK, "traceparent": wrong})
        assert answer.status_code == 422
        assert "traceparent" in answer.text


async def test_a_repeated_request_of_another_trace_is_still_the_same(
    client: httpx.AsyncClient,
) -> None:
    """Each try has a span of its own."""
    headers = {"Idempotency-Key": "once", "traceparent": GOOD}
    first = await client.post("/api/v1/tasks", json=TASK, headers=headers)
    again = await client.post("/api/v1/tasks", json=TASK, headers={**headers, "traceparent": OTHER})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["traceparent"] == GOOD
