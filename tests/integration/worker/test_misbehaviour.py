"""Handlers that try to take the worker with them."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from taskflow.core.task import ErrorClass, TaskStatus
from tests.integration.worker.engine import Engine


class Strange(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("is_coroutine", [False, True], ids=["thread", "coroutine"])
@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (SystemExit(3), "the handler called sys.exit(3)"),
        (SystemExit(), "the handler called sys.exit()"),
        (KeyboardInterrupt(), "the handler raised KeyboardInterrupt"),
        (GeneratorExit(), "the handler raised GeneratorExit"),
        (Strange("odd"), "the handler raised Strange"),
    ],
    ids=["exit code", "exit", "keyboard", "generator", "strange"],
)
def test_leaving_fails_the_attempt_and_nothing_else(
    engine: Engine, raised: BaseException, message: str, is_coroutine: bool
) -> None:
    def leave() -> None:
        raise raised

    async def leave_loop() -> None:
        raise raised

    engine.handler(leave_loop if is_coroutine else leave, name="leave")
    task = engine.run("leave", max_retries=3)
    assert task.status is TaskStatus.FAILED
    assert task.error is not None
    assert (task.error.type, task.error.message) == ("HandlerExitedError", message)
    assert task.error.classification is ErrorClass.PERMANENT
    assert "in leave" in (task.error.traceback or "")
    assert engine.works()
    assert engine.worker.snapshot()["total"] == 2


def test_an_error_without_words_is_still_recorded(engine: Engine) -> None:
    @engine.handler
    def mute() -> None:
        raise Mute

    error = engine.run("mute").error
    assert error is not None
    assert error.type == "Mute"
    assert engine.works()


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), float("nan"), {1: "x"}, "\ud800", 2**70, b"bytes"],
    ids=["set", "object", "nan", "number-as-key", "surrogate", "beyond-64-bit", "bytes"],
)
def test_a_result_that_is_not_json_fails_the_attempt(engine: Engine, value: Any) -> None:
    engine.handler(lambda: value, name="odd")
    task = engine.run("odd", max_retries=3)
    assert (task.status, task.attempt) == (TaskStatus.FAILED, 1)
    assert task.error is not None
    assert task.error.type == "InvalidResultError"
    assert engine.works()


def test_a_result_that_contains_itself_fails_the_attempt(engine: Engine) -> None:
    endless: list[Any] = []
    endless.append(endless)
    engine.handler(lambda: endless, name="endless")
    assert engine.run("endless").status is TaskStatus.FAILED
    assert engine.works()


def test_printing_megabytes_is_nobodys_problem(
    engine: Engine, capfd: pytest.CaptureFixture[str]
) -> None:
    @engine.handler
    def chatty() -> str:
        for _ in range(50):
            print("x" * 100_000)
        return "printed"

    assert engine.run("chatty").result == "printed"
    assert len(capfd.readouterr().out) >= 5_000_000


def test_a_forked_child_never_goes_on_as_a_worker(engine: Engine) -> None:
    finished = os.pipe()
    parent = os.getpid()
    finish = engine.runtime.execution.finish

    def watched(done: Any) -> Any:
        os.write(finished[1], b"parent " if os.getpid() == parent else b"CHILD ")
        return finish(done)

    engine.runtime.execution.finish = watched  # type: ignore[method-assign]

    @engine.handler
    def fork(how: str) -> int:
        pid = os.fork()
        if pid == 0:
            if how == "raises":
                raise ValueError("in the child")
            if how == "exits":
                sys.exit(5)
            return -1
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    assert [engine.run("fork", how).result for how in ("returns", "raises", "exits")] == [0, 0, 0]
    assert engine.works()
    os.close(finished[1])
    with os.fdopen(finished[0]) as lines:
        assert set(lines.read().split()) == {"parent"}


def test_a_forked_child_of_a_coroutine_never_goes_on_as_a_worker(engine: Engine) -> None:
    @engine.handler
    async def fork() -> int:
        pid = os.fork()
        if pid == 0:
            return -1
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222 - it ends at once
        return os.waitstatus_to_exitcode(status)

    assert engine.run("fork").result == 0
    assert engine.works()


def test_a_task_started_by_a_coroutine_that_exits_does_not_stop_the_loop(engine: Engine) -> None:
    import asyncio

    async def leave() -> None:
        sys.exit(1)

    @engine.handler
    async def starts_another() -> str:
        other = asyncio.ensure_future(leave())
        await asyncio.sleep(0.02)
        assert other.done()
        assert isinstance(other.exception(), SystemExit)
        return "survived"

    assert engine.run("starts_another").result == "survived"


def test_a_validator_that_raises_anything_fails_the_attempt(engine: Engine) -> None:
    engine.handler(lambda x: x, name="plain")
    arguments = engine.runtime.execution.arguments

    def broken(attempt: Any) -> Any:
        if attempt.task.task == "plain":
            raise ZeroDivisionError("in a validator")
        return arguments(attempt)

    engine.runtime.execution.arguments = broken  # type: ignore[method-assign]
    task = engine.run("plain", 1)
    assert task.error is not None
    assert task.error.type == "ZeroDivisionError"
    assert engine.works()
