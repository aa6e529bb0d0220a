"""A whole runtime, as `bootstrap.build` makes it, with a clock that only the test moves and no worker threads: the test
takes each step of a worker itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskflow.bootstrap import Runtime, build
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.submission import Accepted, Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, Task
from taskflow.ports.metadata import Outcome
from taskflow.ports.queue import Delivery
from taskflow.services.execution import Attempt
from taskflow.settings import load
from taskflow.testing.clock import FakeClock

_LOCKED_SECONDS = 60.0


@dataclass
class Engine:
    runtime: Runtime
    clock: FakeClock
    registry: Registry
    home: Path

    def handler(self, function: Callable[..., Any], **declared: Any) -> str:
        return self.registry.add(function, declared=TaskOptions(**declared)).name

    def ask(self, task: str, *args: Any, **options: Any) -> Submission:
        kwargs = options.pop("kwargs", {})
        return Submission(task, args, kwargs, SubmitOptions.of(**options))

    def submit(self, task: str, *args: Any, **options: Any) -> str:
        """Its task id."""
        return self.answer(task, *args, **options).task_id

    def answer(self, task: str, *args: Any, **options: Any) -> Accepted:
        return self.runtime.submissions.submit_one(
            DEFAULT_TENANT, self.ask(task, *args, **options), request_id="r1"
        )

    def get(self, task_id: str) -> Task:
        return self.runtime.tasks.get(DEFAULT_TENANT, task_id)

    def status(self, task_id: str) -> str:
        return self.get(task_id).status.value

    def history(self, task_id: str) -> list[str]:
        events = self.runtime.tasks.history(DEFAULT_TENANT, task_id)
        return [event.type.removeprefix("task.") for event in events]

    def row(self, task_id: str) -> dict[str, Any]:
        """As it is in the store."""
        with self.runtime.database.read() as connection:
            query = sa.text("SELECT * FROM tasks WHERE id = :id").bindparams(id=task_id)
            return dict(connection.execute(query).mappings().one())

    def write_row(self, task_id: str, row: Mapping[str, Any]) -> None:
        """What the store would say, had it lost or won something since."""
        values = ", ".join(f"{name} = :{name}" for name in row if name != "id")
        with self.runtime.database.engine.begin() as connection:
            connection.execute(
                sa.text(f"UPDATE tasks SET {values} WHERE id = :id"), {**row, "id": task_id}
            )

    def receive(self, most: int = 100) -> list[Delivery]:
        return self.runtime.queue.dequeue(max_messages=most, timeout_seconds=0)

    def start(self, most: int = 100) -> list[Attempt]:
        return self.runtime.execution.start(self.receive(most))

    def start_one(self) -> Attempt:
        [attempt] = self.start()
        return attempt

    def fail(self, attempt: Attempt, exc: BaseException, duration_ms: float = 2.0) -> None:
        self._finish(attempt, self.runtime.execution.failed(attempt, exc, duration_ms))

    def succeed(self, attempt: Attempt, value: Any = None, duration_ms: float = 2.0) -> None:
        self._finish(attempt, self.runtime.execution.succeeded(attempt, value, duration_ms))

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        """Given again, as workers do, while another process holds the row: its claim of the same task may."""
        deadline = time.monotonic() + _LOCKED_SECONDS
        while self.runtime.execution.finish([(attempt, outcome)]):
            assert time.monotonic() < deadline, f"{outcome} stays locked"

    def work(self) -> int:
        """Run everything that is due, here and now; how many attempts."""
        count = 0
        while attempts := self.start():
            for attempt in attempts:
                count += 1
                assert attempt.handler is not None
                try:
                    args, kwargs = self.runtime.execution.arguments(attempt)
                    self.succeed(attempt, attempt.handler.function(*args, **kwargs))
                except Exception as exc:
                    self.fail(attempt, exc)
        return count

    def payload_files(self) -> list[str]:
        return sorted(self.runtime.payloads.list())

    def count(self, table: str) -> int:
        with self.runtime.database.read() as connection:
            return connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0


@dataclass
class Engines:
    """Makes runtimes on one home, as processes do. All of them are closed after the test."""

    home: Path
    clock: FakeClock = field(default_factory=FakeClock)
    store: Mapping[str, Any] = field(default_factory=dict)
    registry: Registry = field(default_factory=Registry)
    made: list[Engine] = field(default_factory=list)

    def __call__(self, *, with_worker: bool = True, **settings: Any) -> Engine:
        runtime = build(
            load(home=self.home, **{**self.store, **settings}),
            clock=self.clock,
            registry=self.registry,
            with_worker=with_worker,
        )
        self.made.append(Engine(runtime, self.clock, self.registry, self.home))
        return self.made[-1]


@pytest.fixture
def engines(tmp_path: Path, clock: FakeClock, timed_store: dict[str, Any]) -> Iterator[Engines]:
    engines = Engines(tmp_path / "home", clock, timed_store)
    yield engines
    for engine in engines.made:
        engine.runtime.close()


@pytest.fixture
def engine(engines: Engines) -> Engine:
    return engines()


def noop(x: Any = None) -> Any:
    return x


def ids(answers: Sequence[Any]) -> list[str]:
    assert all(isinstance(answer, Accepted) for answer in answers), answers
    return [answer.task_id for answer in answers]
