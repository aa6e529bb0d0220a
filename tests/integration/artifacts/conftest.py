"""An app whose handlers leave artifacts, with its payloads in files and in S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow.app import TaskFlow
from taskflow.bootstrap import provision_bucket
from taskflow.calls.tasks import TaskCalls
from taskflow.client import Client
from taskflow.settings import Settings, load
from tests.integration.artifacts import handlers
from tests.integration.python_api.conftest import serving
from tests.support import aws


@pytest.fixture(params=["files", "s3"])
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    common = {
        "home": tmp_path / "home",
        "num_workers": 2,
        "default_max_retries": 0,
        "retry_base_seconds": 0.0,
        "max_artifact_bytes": 100_000,
        "max_artifacts": 3,
    }
    if request.param == "files":
        return load(**common)
    # MiniStack, because it checks the signatures of presigned URLs.
    url: str = request.getfixturevalue("ministack_url")
    for name, value in aws.environment(url).items():
        monkeypatch.setenv(name, value)
    settings = load(**common, payload_backend="s3", s3_bucket=aws.unique("artifacts"))
    provision_bucket(settings)
    return settings


@pytest.fixture
def app(settings: Settings) -> Iterator[TaskFlow]:
    with TaskFlow(settings, handlers=handlers.registry) as app:
        yield app


@pytest.fixture
def server_url(app: TaskFlow) -> Iterator[str]:
    with serving(app) as url:
        yield url


@pytest.fixture(params=["embedded", "http"])
def calls(request: pytest.FixtureRequest, app: TaskFlow) -> Iterator[TaskCalls]:
    if request.param == "embedded":
        yield app
        return
    with Client(request.getfixturevalue("server_url")) as client:
        yield client
