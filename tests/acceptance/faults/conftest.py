"""A home that several processes share, and what each test of a fault needs to see from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from taskflow import TaskFlow
from taskflow.core.registry import Registry, TaskOptions
from tests.acceptance.crash import processes
from tests.acceptance.crash.load import EFFECTS
from tests.acceptance.crash.processes import Nursery, Process
from tests.acceptance.crash.verdict import is_sound

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with processes.nursery() as started:
        yield started


class Place:
    """One home. Settings are given as keywords, to processes and to `submitting` alike."""

    def __init__(self, directory: Path, nursery: Nursery) -> None:
        self.directory = directory
        self.home = directory / "home"
        self.log = directory / "log"
        self._effects = directory / "effects"
        self._effects.touch()
        self._nursery = nursery

    def start(self, program: str, *, arguments: Any = None, **settings: Any) -> Process:
        environment = {
            EFFECTS: str(self._effects),
            "TASKFLOW_HOME": str(self.home),
            "TASKFLOW_TASKS": "tests.acceptance.faults.handlers",
            "TASKFLOW_LOG_LEVEL": "warning",
            **{f"TASKFLOW_{name.upper()}": str(value) for name, value in settings.items()},
        }
        return self._nursery.start(
            f"tests.acceptance.faults.programs:{program}",
            log=self.log,
            environment=environment,
            **(arguments or {}),
        )

    def working(self, **settings: Any) -> Process:
        """A process with workers. It says what its tasks say."""
        return self.start("work", **settings)

    @contextmanager
    def submitting(self, **settings: Any) -> Iterator[TaskFlow]:
        """An app in the test's own process, without workers unless ``num_workers`` says otherwise."""
        registry = Registry()
        for name, function in (
            ("fault.innocent", lambda number=0: number),
            ("fault.hang_once", lambda: None),
            ("fault.until_told", lambda: None),
            ("fault.poison", lambda: None),
            ("fault.shared", lambda seconds: None),
        ):
            registry.add(function, name=name, declared=TaskOptions())
        values: dict[str, Any] = {"home": self.home, "num_workers": 0} | settings
        with TaskFlow(handlers=registry, **values) as app:
            yield app

    def effects(self) -> Counter[str]:
        """``id attempt``, and how often."""
        return Counter(self._effects.read_text().splitlines())

    def is_sound(self) -> None:
        is_sound(self.home)


@pytest.fixture
def place(tmp_path: Path, nursery: Nursery) -> Place:
    return Place(tmp_path, nursery)
