"""A whole engine in a temporary home, with a worker that tests start, stop and look at."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskflow.bootstrap import Runtime, build
from taskflow.core.registry import Handler, Registry, TaskOptions
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import DEFAULT_TENANT, Task, TaskStatus
from taskflow.ports.clock import Clock
from taskflow.ports.metadata import TaskKey
from taskflow.settings import Settings
from taskflow.worker.worker import Worker

PATIENCE_SECONDS = 60.0  # only a failing test waits that long


class Engine:
    """Handlers go into a registry of its own. ``settings`` as in `Settings`."""

    def __init__(self, home: Path, **settings: Any) -> None:
        defaults: dict[str, Any] = {
            "home": home,
            "num_workers": 2,
            "retry_base_seconds": 0.0,
            "cancel_grace_seconds": 0.1,
            "abandon_grace_seconds": 5.0,  # what can be interrupted may take its time
            "default_max_retries": 0,
        }
        self.settings = Settings(_env_file=None, **(defaults | settings))
        self.registry = Registry()
        self.runtime: Runtime = build(self.settings, registry=self.registry)
        self.worker = Worker.from_runtime(self.runtime)
        self.runtime.tasks.on_cancel(self.worker.cancel)
        self._held: HeldClock | None = None

    def handler(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        **declared: Any,
    ) -> Any:
        """`@engine.handler` or `@engine.handler(executor="process")`."""

        def add(function: Callable[..., Any]) -> Handler[..., Any]:
            return self.registry.add(function, name=name, declared=TaskOptions(**declared))

        return add if function is None else add(function)

    def submit(self, task: str, *args: Any, request_id: str | None = None, **options: Any) -> str:
        kwargs = options.pop("kwargs", {})
        submission = Submission(task, args, kwargs, SubmitOptions.of(**options))
        answer = self.runtime.submissions.submit_one(
            DEFAULT_TENANT, submission, request_id=request_id
        )
        return answer.task_id

    def submit_many(self, task: str, arguments: list[tuple[Any, ...]], **options: Any) -> list[str]:
        """In one transaction and one send, so that a worker sees them all at once."""
        submissions = [
            Submission(task, args, {}, SubmitOptions.of(**options)) for args in arguments
        ]
        answers = self.runtime.submissions.submit(DEFAULT_TENANT, submissions)
        return [answer.task_id for answer in answers]  # type: ignore[union-attr] # all are accepted

    def get(self, task_id: str) -> Task:
        return self.runtime.tasks.get(DEFAULT_TENANT, task_id)

    def cancel(self, task_id: str) -> Task:
        return self.runtime.tasks.cancel(DEFAULT_TENANT, task_id)

    def final(self, task_id: str) -> Task:
        task = self.runtime.tasks.wait(DEFAULT_TENANT, task_id, PATIENCE_SECONDS)
        assert task.status.is_final, f"{task.task} is still {task.status}"
        return task

    def events(self, task_id: str) -> list[str]:
        return [event.type.value for event in self.runtime.tasks.history(DEFAULT_TENANT, task_id)]

    def run(self, task: str, *args: Any, **options: Any) -> Task:
        return self.final(self.submit(task, *args, **options))

    def works(self) -> bool:
        """Whether the worker still runs an ordinary task."""
        if self.registry.find("still_alive") is None:
            self.handler(lambda: "yes", name="still_alive")
        return self.run("still_alive").result == "yes"

    def hold_time(self) -> HeldClock:
        """The clock of its worker, if that is started from here on."""
        self._held = HeldClock(self.worker._clock)
        self.worker._clock = self._held
        return self._held

    def make_known_as_short(self, task: str, *args: Any) -> None:
        """Its worker claims such tasks ahead: one of the first may have met a pause, and be taken for long."""
        crew = self.worker._crew
        assert crew is not None
        for _ in range(100):
            self.run(task, *args)
            if crew.pool.claim_ahead.limit(1) > 0:
                return
        raise AssertionError(f"{task} is not short")

    def wait_until_idle(self) -> None:
        """Nothing is here: of an attempt whose outcome can be seen, message and lease are not yet forgotten."""
        crew = self.worker._crew
        assert crew is not None
        wait_for(lambda: not crew.pool.leased, "nothing is left to be done")

    def close(self) -> None:
        if self._held is not None:
            self._held.go_on()
        self.worker.stop(grace_seconds=0.0)
        self.runtime.close()


class HeldClock:
    """Stands still until `go_on`: what must not be over before the test has looked, is not.

    Who waits for a moment looks again when it would have come without this clock, and waits once more.
    """

    def __init__(self, clock: Clock) -> None:
        self.now_us = clock.now_us
        self._clock = clock
        self._behind_seconds = 0.0
        self._held_at: float | None = clock.monotonic()

    def monotonic(self) -> float:
        held_at = self._held_at
        return self._clock.monotonic() - self._behind_seconds if held_at is None else held_at

    def hold(self) -> None:
        self._held_at = self.monotonic()

    def go_on(self) -> None:
        if self._held_at is not None:
            self._behind_seconds = self._clock.monotonic() - self._held_at
            self._held_at = None


class Gate:
    """Where a handler waits until the test lets it go on, and the test until the handler is there."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_through(self) -> None:
        """For handlers. Blocks in C code: no interrupt reaches it before the gate opens."""
        self._arrived.release()
        assert self._open.wait(PATIENCE_SECONDS)

    def arrive(self) -> None:
        """For handlers that go on at once."""
        self._arrived.release()

    def wait_for(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE_SECONDS), "no handler came to the gate"

    def open(self) -> None:
        self._open.set()


def key(task_id: str) -> TaskKey:
    return TaskKey(DEFAULT_TENANT, task_id)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """For what nothing announces: looks every few milliseconds."""
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError(f"never happened: {what}")


def is_pending(engine: Engine, task_id: str) -> bool:
    return engine.get(task_id).status is TaskStatus.PENDING
