"""Failed tasks: listed, grouped, sent again, put away."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from taskflow.bootstrap import Runtime
from tests.integration.api.conftest import problem, submit, work, works

pytestmark = works

DEAD = "/api/v1/dead-letters"


async def dead(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"{DEAD}?{query}")
    assert answer.status_code == 200, answer.text
    return [task["task_id"] for task in answer.json()["items"]]


@pytest.fixture
async def failed(client: httpx.AsyncClient, runtime: Runtime) -> list[str]:
    """Two tasks that failed alike, and one that failed otherwise, in this order."""
    made = [
        await submit(client, "fail", kwargs={"reason": "no such customer"}),
        await submit(client, "fail", kwargs={"reason": "no such customer"}),
        await submit(client, "crash"),
    ]
    await submit(client, "echo")
    work(runtime)
    return made


async def test_only_failed_tasks_are_dead_letters(
    client: httpx.AsyncClient, failed: list[str]
) -> None:
    assert await dead(client) == failed[::-1]
    assert await dead(client, "task=crash") == failed[2:]
    first = (await client.get(f"{DEAD}?limit=2")).json()
    assert await dead(client, f"cursor={first['next_cursor']}") == failed[:1]


async def test_what_failed_alike_is_one_group(client: httpx.AsyncClient, failed: list[str]) -> None:
    groups = (await client.get(f"{DEAD}/groups")).json()["items"]

    assert [(group["task"], group["count"]) for group in groups] == [("fail", 2), ("crash", 1)]
    assert (groups[0]["error_type"], groups[0]["message"]) == ("ValueError", "no such customer")
    assert groups[0]["sample_task_id"] in failed[:2]
    assert datetime.fromisoformat(groups[0]["first_at"]) <= datetime.fromisoformat(
        groups[0]["last_at"]
    )
    assert await dead(client, f"fingerprint={groups[0]['fingerprint']}") == failed[1::-1]
    assert (await client.get(f"{DEAD}/groups?limit=1")).json()["items"] == groups[:1]
    problem(await client.get(f"{DEAD}/groups?limit=0"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [({"task": "fail"}, [0, 1]), ({"all": True}, [0, 1, 2]), ({"task": "fail", "limit": 1}, None)],
)
async def test_redriven_tasks_run_again(
    client: httpx.AsyncClient,
    runtime: Runtime,
    failed: list[str],
    selection: dict[str, Any],
    chosen: list[int] | None,
) -> None:
    answer = await client.post(f"{DEAD}/redrive", json=selection)

    count = 1 if chosen is None else len(chosen)
    assert answer.json() == {"redriven": count}
    left = await dead(client)
    assert len(left) == 3 - count
    if chosen is not None:
        assert left == [failed[i] for i in (2, 1, 0) if i not in chosen]
    assert work(runtime) == count
    assert await dead(client) == failed[::-1]


async def test_redriving_by_fingerprint_or_id(client: httpx.AsyncClient, failed: list[str]) -> None:
    groups = (await client.get(f"{DEAD}/groups")).json()["items"]
    body = {"fingerprint": groups[0]["fingerprint"]}
    assert (await client.post(f"{DEAD}/redrive", json=body)).json() == {"redriven": 2}

    unknown = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
    body = {"task_ids": [failed[2], failed[0], unknown]}  # the second waits again already
    assert (await client.post(f"{DEAD}/redrive", json=body)).json() == {"redriven": 1}
    assert await dead(client) == []


async def test_redriving_at_a_rate_spreads_the_tasks_over_time(
    client: httpx.AsyncClient, failed: list[str]
) -> None:
    body = {"all": True, "rate_per_second": 0.1}
    assert (await client.post(f"{DEAD}/redrive", json=body)).json() == {"redriven": 3}

    tasks = [(await client.get(f"/tasks/{task_id}")).json() for task_id in failed]
    due = sorted(datetime.fromisoformat(task["run_at"]) for task in tasks)
    assert [later - due[0] for later in due] == [timedelta(seconds=s) for s in (0, 10, 20)]


async def test_discarded_tasks_stay_failed_but_leave_the_dead_letters(
    client: httpx.AsyncClient, failed: list[str]
) -> None:
    answer = await client.post(f"{DEAD}/discard", json={"task_ids": failed[:2]})

    assert answer.json() == {"discarded": 2}
    assert await dead(client) == failed[2:]
    assert (await client.get(f"/tasks/{failed[0]}")).json()["status"] == "failed"
    again = await client.post(f"{DEAD}/discard", json={"task_ids": failed[:2]})
    assert again.json() == {"discarded": 0}


@pytest.mark.parametrize("action", ["redrive", "discard"])
@pytest.mark.parametrize(
    "body", [{}, {"all": False}, {"limit": 5}, {"task_ids": []}, {"task_ids": ["x"]}, {"ids": []}]
)
async def test_nothing_happens_to_dead_letters_nobody_named(
    client: httpx.AsyncClient, failed: list[str], action: str, body: dict[str, Any]
) -> None:
    problem(await client.post(f"{DEAD}/{action}", json=body), 422, "invalid_request")
    assert await dead(client) == failed[::-1]


async def test_ids_and_filters_exclude_each_other(
    client: httpx.AsyncClient, failed: list[str]
) -> None:
    body = {"task_ids": failed[:1], "task": "fail"}
    problem(await client.post(f"{DEAD}/discard", json=body), 422, "invalid_request")
    assert await dead(client) == failed[::-1]


@pytest.mark.parametrize("rate", [0, -1, 1e9, "5"])
async def test_an_impossible_rate_is_refused(
    client: httpx.AsyncClient, failed: list[str], rate: Any
) -> None:
    body = {"all": True, "rate_per_second": rate}
    problem(await client.post(f"{DEAD}/redrive", json=body), 422, "invalid_request")
    assert await dead(client) == failed[::-1]
