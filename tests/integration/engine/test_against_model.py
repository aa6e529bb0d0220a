"""The engine does what a plain model says, whatever order things happen in: see `model.py` and `machine.py`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.transaction import Prepared
from taskflow.bootstrap import Runtime, build
from taskflow.core.registry import Registry, TaskOptions
from taskflow.settings import Settings
from taskflow.testing.clock import FakeClock
from tests.integration.engine.machine import LEASE_SECONDS, MAX_CRASHES, EngineMachine, Store
from tests.support.postgres import Postgres

# More of them find more; each takes about half a second.
EXAMPLES = int(os.environ.get("TASKFLOW_TEST_EXAMPLES", "30"))
COMMON = settings(
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # it takes minutes
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An example starts half a dozen processes, and most of a start is SQLAlchemy compiling the same statements."""
    for name in ("prepare", "prepare_rows"):
        monkeypatch.setattr(Database, name, _remembering(getattr(Database, name)))


def _remembering(prepare: Callable[[Database, Any], Prepared]) -> Callable[..., Prepared]:
    known: dict[Any, Prepared] = {}

    def remembered(database: Database, statement: Any) -> Prepared:
        structure = statement._generate_cache_key()
        if structure is None:
            return prepare(database, statement)
        key = (database.is_sqlite, structure.key, *(b.value for b in structure.bindparams))
        if key not in known:
            known[key] = prepare(database, statement)
        return known[key]

    return remembered


def open_runtime(home: Path, clock: FakeClock, num_workers: int, database_url: str = "") -> Runtime:
    registry = Registry()
    registry.add(lambda: None, name="job", declared=TaskOptions())
    chosen = Settings(
        _env_file=None,
        home=home,
        database_url=database_url,
        num_workers=num_workers,
        lease_seconds=LEASE_SECONDS,
        max_crashes=MAX_CRASHES,
    )
    return build(chosen, clock=clock, registry=registry)


class SqliteStore(Store):
    """A copy of an empty store; making one takes longer than a whole example."""

    knows_the_dead = True

    def __init__(self, template: Path) -> None:
        self.clock = FakeClock()
        self._home = Path(tempfile.mkdtemp(prefix="taskflow-model-"))
        shutil.copytree(template, self._home, dirs_exist_ok=True)

    def open(self, *, num_workers: int) -> Runtime:
        return open_runtime(self._home, self.clock, num_workers)

    def moved(self) -> None:
        """Database time is the clock's."""

    def close(self) -> None:
        shutil.rmtree(self._home)


class PostgresStore(Store):
    """Database time is a function, which tests may replace."""

    knows_the_dead = False

    def __init__(self, home: Path, url: str) -> None:
        self.clock = FakeClock()
        self._home, self._url = home, url
        self._first: Runtime | None = None

    def open(self, *, num_workers: int) -> Runtime:
        runtime = open_runtime(self._home, self.clock, num_workers, self._url)
        if self._first is None:
            self._first = runtime
            self.moved()
        return runtime

    def moved(self) -> None:
        assert self._first is not None
        with self._first.database.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE OR REPLACE FUNCTION taskflow_now() RETURNS bigint LANGUAGE sql STABLE AS "
                f"$$ SELECT {self.clock.now_us()}::bigint $$"
            )

    def close(self) -> None:
        """The fixture drops the database."""


def machine_on(make: Callable[[], Store]) -> Callable[[], EngineMachine]:
    def machine() -> EngineMachine:
        return type("Machine", (EngineMachine,), {"store": make()})()

    return machine


@pytest.mark.slow
@pytest.mark.timeout(600)  # making a failure small takes minutes
def test_on_sqlite(tmp_path: Path) -> None:
    template = tmp_path / "template"
    open_runtime(template, FakeClock(), 0).close()
    run_state_machine_as_test(
        machine_on(lambda: SqliteStore(template)), settings=settings(COMMON, max_examples=EXAMPLES)
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_postgresql(
    tmp_path: Path,
    postgres_server: Postgres,
    postgres_url_factory: Callable[..., str],
) -> None:
    def migrated(url: str) -> None:
        open_runtime(tmp_path, FakeClock(), 0, url).close()

    template = postgres_server.template(migrated, name="engine_model")
    run_state_machine_as_test(
        machine_on(lambda: PostgresStore(tmp_path, postgres_url_factory(template=template))),
        settings=settings(COMMON, max_examples=max(1, EXAMPLES // 4)),
    )
