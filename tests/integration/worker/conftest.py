from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker.engine import Engine, Gate


@pytest.fixture
def make_engine(tmp_path: Path, backend: dict[str, Any]) -> Iterator[Callable[..., Engine]]:
    """``make_engine(num_workers=1)``; its worker is not started."""
    engines: list[Engine] = []

    def make(**settings: Any) -> Engine:
        engines.append(Engine(tmp_path / "home", **(backend | settings)))
        return engines[-1]

    yield make
    for engine in reversed(engines):
        engine.close()


@pytest.fixture
def engine(make_engine: Callable[..., Engine]) -> Engine:
    """With a running worker of two slots."""
    engine = make_engine()
    engine.worker.start()
    return engine


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()
