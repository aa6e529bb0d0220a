"""Handlers, numbers, workers, health."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from taskflow.api.app import create_app
from taskflow.bootstrap import Runtime
from taskflow.core.errors import StoreUnavailableError
from taskflow.ports.metadata import WorkerRecord
from tests.integration.api.conftest import connect, problem, submit, work, works


class Worker:
    """What the API knows of a worker."""

    def snapshot(self) -> dict[str, Any]:
        return {"total": 4, "busy": 1, "idle": 3}


def report_worker(runtime: Runtime) -> None:
    runtime.stores.workers.report(
        WorkerRecord(
            runtime.worker_id, "host-1", 42, 0, 0, "running", {"total": 4, "busy": 1, "idle": 3}
        )
    )


async def samples(
    client: httpx.AsyncClient,
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_handlers_are_shown_with_the_schema_of_their_arguments(
    client: httpx.AsyncClient,
) -> None:
    items = (await client.get("/api/v1/handlers")).json()["items"]
    by_name = {item["task"]: item for item in items}

    assert list(by_name) == sorted(by_name)
    add = by_name["add"]
    assert (add["priority"], add["max_retries"], add["timeout"]) == (1, 7, 12.5)
    assert add["arguments"]["properties"]["a"]["type"] == "integer"
    assert add["arguments"]["required"] == ["a"]
    assert by_name["echo"]["description"] == "Say it again."


@works
async def test_counts_by_status_are_in_the_metrics(
    client: httpx.AsyncClient, runtime: Runtime
) -> None:
    for task in ("echo", "echo", "fail"):
        await submit(client, task)
    work(runtime)
    await submit(client, "echo")

    metrics = (await client.get("/api/v1/metrics")).json()
    queue = metrics["queue"]
    assert (queue["pending_count"], queue["running_count"]) == (1, 0)
    assert (queue["completed_count"], queue["failed_count"]) == (2, 1)
    totals = metrics["totals"]
    assert (totals["enqueued"], totals["succeeded"], totals["failed"]) == (4, 2, 1)
    assert metrics["errors_by_class"] == {"permanent": 1}


async def test_stats_are_the_short_form(client: httpx.AsyncClient, runtime: Runtime) -> None:
    report_worker(runtime)
    await submit(client, "echo")

    stats = (await client.get("/stats")).json()
    assert stats["queue_size"] == 1
    assert stats["workers"] == {"processes": 1, "total": 4, "busy": 1, "idle": 3}


async def test_workers_are_listed(client: httpx.AsyncClient, runtime: Runtime) -> None:
    report_worker(runtime)

    [worker] = (await client.get("/api/v1/workers")).json()["items"]
    assert (worker["worker_id"], worker["pid"]) == (runtime.worker_id, 42)
    assert (worker["status"], worker["details"]["busy"]) == ("running", 1)
    assert worker["seen_at"].endswith("Z")


async def test_requests_are_counted_and_timed_by_route_not_by_path(
    client: httpx.AsyncClient,
) -> None:
    task_id = await submit(client, "echo")
    for _ in range(3):
        await client.get(f"/api/v1/tasks/{task_id}")
    await client.get("/nowhere/else")
    await client.request("BREW", "/stats")

    found = await samples(client)
    counted = "taskflow_http_requests_total"
    one = (("method", "GET"), ("route", "/api/v1/tasks/{task_id}"), ("status", "200"))
    assert found[counted, one] == 3
    timed = "taskflow_http_request_duration_seconds_count"
    assert found[timed, (("method", "POST"), ("route", "/api/v1/tasks"))] == 1
    assert found[counted, (("method", "GET"), ("route", "unmatched"), ("status", "404"))] == 1
    assert not any(task_id in str(key) or "BREW" in str(key) for key in found)
    assert found["taskflow_tasks_submitted_total", (("task", "echo"),)] == 1


async def test_the_exposition_names_every_metric_once(client: httpx.AsyncClient) -> None:
    await submit(client, "echo")

    lines = (await client.get("/metrics")).text.splitlines()
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert all(line.startswith(("#", "taskflow_")) for line in lines)


# --- health -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
async def test_a_sound_instance_is_healthy(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


async def test_an_instance_about_to_stop_is_alive_but_wants_no_requests(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    app.state.instance.draining.set()

    for path in ("/health", "/health/ready"):
        answer = await client.get(path)
        assert "draining" in problem(answer, 503, "not_ready")["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    assert (await client.get("/health/live")).status_code == 200


async def test_readiness_names_the_store_when_it_does_not_answer(
    app: FastAPI, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked() -> None:
        raise StoreUnavailableError("the store is locked by another process")

    monkeypatch.setattr(runtime.stores.maintenance, "ping", locked)
    async with connect(app) as client:
        body = problem(await client.get("/health/ready"), 503, "not_ready")
        assert body["errors"] == [
            {"field": "store", "message": "the store is locked by another process"}
        ]
        assert (await client.get("/health")).status_code == 200


async def test_an_instance_with_a_worker_is_ready_while_that_gives_signs_of_life(
    runtime: Runtime,
) -> None:
    async with connect(create_app(runtime, worker=Worker())) as client:
        body = problem(await client.get("/health/ready"), 503, "not_ready")
        assert [error["field"] for error in body["errors"]] == ["workers"]

        report_worker(runtime)
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["checks"]["workers"] == "ok, 1 alive, 1 of 4 busy here"
