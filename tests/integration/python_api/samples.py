"""Handlers that the tests of this directory submit."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from taskflow.core.context import TaskContext
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.retry import Retry

PATIENCE_SECONDS = 60.0


@dataclass
class Gate:
    """Lets a test hold a handler where it wants it."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def pass_through(self) -> None:
        self.entered.set()
        assert self.opened.wait(PATIENCE_SECONDS)


def sample_registry(gate: Gate) -> Registry:
    """Handlers by the names of the functions below."""
    registry = Registry()
    calls: dict[str, int] = {}

    def add(a: int, b: int = 1) -> int:
        """Add two numbers.

        And nothing else.
        """
        return a + b

    async def greet(name: str) -> str:
        return f"Hello {name}"

    def fail(message: str = "as asked") -> None:
        raise ValueError(message)

    def flaky(key: str, failures: int) -> int:
        calls[key] = calls.get(key, 0) + 1
        if calls[key] <= failures:
            raise Retry("not yet", delay=0)
        return calls[key]

    def hold(ctx: TaskContext) -> str:
        ctx.progress(40, "half way")
        gate.pass_through()
        return "released"

    def wait_for_cancel(ctx: TaskContext) -> str:
        gate.entered.set()
        while not ctx.cancelled:
            gate.opened.wait(0.01)
        return "noticed"

    def day_of(moment: datetime) -> str:
        return moment.date().isoformat()

    def anything(value: Any) -> Any:
        return value

    def submit_another(a: int) -> str:
        return registry.submitter.submit_task(_submission("add", a)).id

    for function in (
        add, greet, fail, flaky, hold, wait_for_cancel, day_of, anything, submit_another,
    ):  # fmt: skip
        registry.add(function, declared=TaskOptions(max_retries=3))
    return registry


def _submission(task: str, *args: Any) -> Any:
    from taskflow.core.submission import Submission

    return Submission(task, args)
