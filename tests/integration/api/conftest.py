"""The whole API on real backends, in this process. Attempts run when a test says so (`work`), not by themselves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from taskflow.api.app import create_app
from taskflow.bootstrap import Runtime, build
from taskflow.core.registry import Registry
from taskflow.core.task import TaskStatus
from taskflow.settings import load
from tests.integration.api.samples import sample_registry

PATIENCE_SECONDS = 60.0  # only a failing test waits that long

MakeRuntime = Callable[..., Runtime]


# Of tests that `work`: their process is the worker, too, and takes tasks from the queue.
works = pytest.mark.parametrize("aws_role", ["WorkerRole"])


@pytest.fixture
def aws_role() -> str:
    return "ApiRole"


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store with nothing in it: copying it is ten times as fast as making another."""
    home = tmp_path_factory.mktemp("empty") / "home"
    build(load(home=home), registry=Registry(), with_worker=False).close()
    return home


@pytest.fixture
def home(tmp_path: Path, empty_home: Path) -> Path:
    return Path(shutil.copytree(empty_home, tmp_path / "home"))


@pytest.fixture
def registry() -> Registry:
    return sample_registry()


@pytest.fixture
def make_runtime(home: Path, registry: Registry, backend: dict[str, Any]) -> Iterator[MakeRuntime]:
    """``make_runtime(max_queue_size=2, …)``: settings by name. Closed after the test."""
    made: list[Runtime] = []

    def make(**settings: Any) -> Runtime:
        values = {"home": home, "retry_base_seconds": 0.0, **backend, **settings}
        made.append(build(load(**values), registry=registry, with_worker=True))
        return made[-1]

    yield make
    for runtime in reversed(made):
        runtime.close()


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Runtime:
    return make_runtime()


@pytest.fixture
def app(runtime: Runtime) -> FastAPI:
    return create_app(runtime)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(app) as client:
        yield client


def connect(app: FastAPI) -> httpx.AsyncClient:
    """A client of ``app``; what the app lets escape is raised here."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://taskflow")


def work(runtime: Runtime) -> int:
    """Run every attempt that is due, here and now; returns how many there were."""
    count = 0
    while _waits(runtime):
        deliveries = runtime.queue.dequeue(max_messages=100, timeout_seconds=PATIENCE_SECONDS)
        assert deliveries, "a message is lost"
        done = []
        for attempt in runtime.execution.start(deliveries):
            count += 1
            try:
                args, kwargs = runtime.execution.arguments(attempt)
                assert attempt.handler is not None
                value = attempt.handler.function(*args, **kwargs)
            except Exception as exc:
                done.append((attempt, runtime.execution.failed(attempt, exc, 1.0)))
            else:
                done.append((attempt, runtime.execution.succeeded(attempt, value, 1.0)))
        runtime.execution.finish(done)
    return count


def _waits(runtime: Runtime) -> bool:
    counts = runtime.stores.insights.counts(None).by_status
    return bool(counts[TaskStatus.PENDING] + counts[TaskStatus.RETRYING])


async def submit(client: httpx.AsyncClient, task: str, **fields: Any) -> str:
    """The id of a task that was accepted."""
    answer = await client.post("/api/v1/tasks", json={"task": task, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that ``answer`` has to be: every member RFC 9457 and ours, and nothing of the inside."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["type"] == f"urn:taskflow:problem:{code}"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["instance"] == answer.request.url.raw_path.decode().partition("?")[0]
    assert "Traceback" not in answer.text
    return body


def fields(body: dict[str, Any]) -> list[str]:
    """Names of the fields a problem points at."""
    return [error["field"] for error in body["errors"]]
