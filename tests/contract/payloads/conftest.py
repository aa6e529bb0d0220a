"""Every adapter of the payload port, empty, and a second one on the same objects (another process, as it were)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taskflow.adapters.payloads.files import FilePayloads
from taskflow.ports.payloads import PayloadStore


@pytest.fixture(params=["files"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], PayloadStore]:
    return {"files": lambda: FilePayloads(tmp_path / "payloads")}[request.param]


@pytest.fixture
def store(open_store: Callable[[], PayloadStore]) -> PayloadStore:
    return open_store()
