"""The trace that a task was submitted in: its handler sees it, what that submits is in it, and the log says so."""

from __future__ import annotations

import logging

import pytest

from taskflow.core import trace
from taskflow.core.context import TaskContext
from taskflow.core.retry import Retry
from taskflow.core.task import TaskStatus
from taskflow.logs import LogEvent
from tests.integration.worker import process_handlers
from tests.integration.worker.engine import Engine

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def test_what_a_handler_submits_is_in_the_trace_of_its_own_task(engine: Engine) -> None:
    engine.handler(lambda: None, name="leaf")

    @engine.handler
    def sync(ctx: TaskContext) -> list[str | None]:
        return [ctx.traceparent, engine.submit("leaf"), engine.submit("leaf", traceparent=OTHER)]

    @engine.handler
    async def coroutine(ctx: TaskContext) -> list[str | None]:
        return [ctx.traceparent, engine.submit("leaf"), engine.submit("leaf", traceparent=OTHER)]

    for name in ("sync", "coroutine"):
        said, child, told = engine.run(name, traceparent=TRACEPARENT).result
        assert said == TRACEPARENT
        assert [engine.get(task).traceparent for task in (child, told)] == [TRACEPARENT, OTHER]
        # The next one of the same thread has nothing to do with it.
        said, child, _ = engine.run(name).result
        assert (said, engine.get(child).traceparent) == (None, None)
    assert trace.CURRENT.get() is None


def test_a_child_process_knows_it_too(engine: Engine) -> None:
    process_handlers.add_to(engine.registry)
    assert engine.run("process_trace", traceparent=TRACEPARENT).result == [TRACEPARENT] * 2
    assert engine.run("process_trace").result == [None, None]


def test_a_retry_is_in_it_and_the_line_of_each_attempt_says_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taskflow")

    @engine.handler
    def flaky(ctx: TaskContext) -> str | None:
        ctx.log.info("handler.spoke")
        if ctx.attempt == 1:
            raise Retry(delay=0)
        return ctx.traceparent

    task = engine.run("flaky", traceparent=TRACEPARENT, max_retries=1)
    assert (task.status, task.result, task.attempt) == (TaskStatus.COMPLETED, TRACEPARENT, 2)
    engine.run("flaky", max_retries=1)
    engine.worker.stop()  # a line comes after the outcome it tells of
    lines = [record.msg for record in caplog.records if isinstance(record.msg, LogEvent)]
    for event in ("task.retrying", "task.completed", "handler.spoke"):
        traces = [line.fields.get("trace_id") for line in lines if line.event == event]
        assert set(traces) == {TRACE, None}
