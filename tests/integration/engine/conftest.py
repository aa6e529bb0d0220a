"""Real engines on one home, without threads: every step is the test's own, and so is the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskflow.bootstrap import Runtime, build
from taskflow.core.registry import Registry, TaskOptions
from taskflow.settings import Settings
from taskflow.testing.clock import FakeClock


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(lambda: None, name="job", declared=TaskOptions())
    return registry


@pytest.fixture
def make(
    tmp_path: Path, clock: FakeClock, registry: Registry, timed_store: dict[str, Any]
) -> Iterator[Callable[..., Runtime]]:
    """``make(**settings)``: one more process on the same home and store."""
    made: list[Runtime] = []

    def make(**settings: Any) -> Runtime:
        values = {"home": tmp_path / "home", "retry_base_seconds": 0.0} | timed_store | settings
        made.append(build(Settings(_env_file=None, **values), clock=clock, registry=registry))
        return made[-1]

    yield make
    for runtime in made:
        runtime.close()
