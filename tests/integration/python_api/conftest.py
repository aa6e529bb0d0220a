"""The same calls on an embedded app and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from taskflow.api.app import create_app
from taskflow.app import TaskFlow
from taskflow.calls.tasks import TaskCalls
from taskflow.client import Client
from taskflow.core.registry import Registry
from taskflow.listening import address_of, listen
from tests.integration.python_api.samples import Gate, sample_registry


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def registry(gate: Gate) -> Registry:
    return sample_registry(gate)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def app(home: Path, registry: Registry, gate: Gate, backend: dict[str, Any]) -> Iterator[TaskFlow]:
    app = TaskFlow(home=home, handlers=registry, num_workers=2, retry_base_seconds=0, **backend)
    app.start()
    yield app
    gate.opened.set()
    app.stop(grace_seconds=5)


@contextmanager
def serving(app: TaskFlow) -> Iterator[str]:
    """The app's HTTP API in a thread; yields its address."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            create_app(app.runtime, worker=app.worker), lifespan="off", log_config=None
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield address_of(listener)
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


@pytest.fixture
def server_url(app: TaskFlow) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture
def client(server_url: str) -> Iterator[Client]:
    with Client(server_url) as client:
        yield client


@pytest.fixture(params=["embedded", "http"])
def calls(request: pytest.FixtureRequest, app: TaskFlow) -> TaskCalls:
    """Every test that asks for it runs twice."""
    if request.param == "embedded":
        return app
    client: Client = request.getfixturevalue("client")
    return client
