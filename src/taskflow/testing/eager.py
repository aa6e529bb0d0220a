"""Eager mode: submitting a task runs it at once, in the caller's thread, on a clock that skips every wait."""

from __future__ import annotations

import asyncio
import inspect
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskflow.bootstrap import Runtime, build
from taskflow.calls.dead_letters import DeadLetterCalls, Selection
from taskflow.calls.embedded import RuntimeCalls, RuntimeDeadLetters
from taskflow.calls.tasks import Answers
from taskflow.core import trace
from taskflow.core.registry import Registry, registry
from taskflow.core.submission import Submission
from taskflow.core.task import CLAIMABLE, Task
from taskflow.handle import TaskHandle
from taskflow.ports.metadata import TaskFilter
from taskflow.services.execution import Attempt
from taskflow.settings import load
from taskflow.testing.clock import FakeClock
from taskflow.worker.context import AttemptContext
from taskflow.worker.exits import as_error
from taskflow.worker.run import Run

_PAGE = 200


class EagerTaskFlow(RuntimeCalls):
    """A `TaskFlow` without threads. Everything but the worker's pool is the real thing: arguments are validated and go
    through JSON, results too, retries, dead letters, dependencies, progress and history are decided and stored as ever.

    Time stands still, except that it moves on to whatever is due next: delays, retries and schedules cost nothing.
    ``clock`` is that time. Not simulated: timeouts, cancellation of a running handler, ``executor="process"`` (the
    handler runs here), priorities between tasks submitted one by one. A coroutine handler runs on a loop of its own;
    inside a running loop (an async test) that is the one thing done on another thread, while the caller waits.
    """

    def __init__(self, runtime: Runtime, clock: FakeClock) -> None:
        self._runtime = runtime
        self.clock = clock

    @property
    def runtime(self) -> Runtime:
        return self._runtime

    def submit_batch(self, submissions: Sequence[Submission], connection: Any = None) -> Answers:
        """As always, and then runs them and whatever else is waiting; no transaction of the caller's can undo it."""
        answers = super().submit_batch(submissions)
        self.run_waiting()
        return answers

    def submit_task(self, submission: Submission, connection: Any = None) -> TaskHandle:
        handle = super().submit_task(submission)
        self.run_waiting()
        return handle

    def retry(self, task_id: str) -> Task:
        super().retry(task_id)
        self.run_waiting()
        return self.get(task_id)

    @property
    def dead_letters(self) -> DeadLetterCalls:
        return _DeadLetters(self)

    def run_waiting(self) -> None:
        """Run everything that waits, retries and delayed tasks included, until nothing is left that can run."""
        runtime = self._runtime
        while True:
            runtime.relay.run_once()
            deliveries = runtime.queue.dequeue(max_messages=1, timeout_seconds=0)
            for attempt in runtime.execution.start(deliveries) if deliveries else ():
                self._run(attempt)
            if not deliveries and not self._skip_to_next():
                return

    def _skip_to_next(self) -> bool:
        """Move the clock to the next task that is due. False when none waits."""
        where = TaskFilter(statuses=CLAIMABLE)
        cursor: str | None = None
        due: list[float] = []
        while True:
            tasks, cursor = self._runtime.tasks.list(
                self.tenant_id, where, limit=_PAGE, cursor=cursor
            )
            due += [task.run_at.timestamp() for task in tasks]
            if cursor is None:
                break
        if not due:
            return False
        # A millisecond more: what is due at a moment may be compared as "before" somewhere.
        self.clock.advance(max(0.0, min(due) - self.clock.now_us() / 1_000_000) + 0.001)
        return True

    def _run(self, attempt: Attempt) -> None:
        execution = self._runtime.execution
        began = time.perf_counter()
        outer = trace.CURRENT.set(attempt.task.traceparent)
        try:
            args, kwargs = execution.arguments(attempt)
            assert attempt.handler is not None  # `arguments` refuses unknown tasks
            signature = attempt.handler.signature
            if signature.context_parameter is not None:
                signature.give_context(args, kwargs, self._context(attempt))
            value = _call(attempt.handler.function, args, kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - whatever a handler raises ends its attempt and nothing else
            outcome = execution.failed(attempt, as_error(exc), _ms_since(began))
        else:
            outcome = execution.succeeded(attempt, value, _ms_since(began))
        finally:
            trace.CURRENT.reset(outer)
        execution.finish([(attempt, outcome)])

    def _context(self, attempt: Attempt) -> AttemptContext:
        run = Run(attempt, self.clock.monotonic(), None)
        run.started_at = self.clock.monotonic()

        def write() -> None:
            if run.progress is not None:
                self._runtime.execution.heartbeat([attempt], {attempt.task.task_id: run.progress})

        return AttemptContext(run, self.clock.monotonic, write, self._runtime.artifacts)


class _DeadLetters(RuntimeDeadLetters):
    def __init__(self, app: EagerTaskFlow) -> None:
        super().__init__(app)
        self._app = app

    def _redrive(self, selection: Selection, rate_per_second: float | None) -> int:
        count = super()._redrive(selection, rate_per_second)
        self._app.run_waiting()
        return count


@contextmanager
def eager(
    *, handlers: Registry = registry, clock: FakeClock | None = None, **settings: Any
) -> Iterator[EagerTaskFlow]:
    """Inside the block `handler.submit(...)` runs the handler before it returns; see `EagerTaskFlow`.

    ``settings`` as in `TaskFlow`; its home is a temporary directory. Errors of handlers end up in their tasks, as ever:
    look at ``handle.status()``, or let ``handle.result()`` raise TaskFailedError.
    """
    clock = clock or FakeClock()
    with tempfile.TemporaryDirectory(prefix="taskflow-eager-") as directory:
        runtime = build(
            load(**({"home": Path(directory), "database_url": ""} | settings)),
            clock=clock,
            registry=handlers,
            with_worker=True,
        )
        app = EagerTaskFlow(runtime, clock)
        runtime.registry.bind(app)
        try:
            yield app
        finally:
            runtime.registry.unbind(app)
            runtime.close()


def _call(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    if not inspect.iscoroutinefunction(function):
        return function(*args, **kwargs)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(function(*args, **kwargs))
    with ThreadPoolExecutor(1, thread_name_prefix="taskflow-eager") as beside_the_loop:
        return beside_the_loop.submit(lambda: asyncio.run(function(*args, **kwargs))).result()


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1_000
