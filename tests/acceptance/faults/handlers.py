"""The tasks of the fault tests. They say what they do over the channel of their process, and to a file."""

from __future__ import annotations

import os
import signal
import socket
import threading

from taskflow import TaskContext, task
from tests.acceptance.crash.handlers import effects

channel: socket.socket | None = None  # of this process


def say(message: str) -> None:
    assert channel is not None
    channel.send(message.encode())


@task("fault.innocent")
def innocent(ctx: TaskContext, number: int = 0) -> int:
    effects.add(f"{ctx.task_id} {ctx.attempt}")
    return number


@task("fault.hang_once")
def hang_once(ctx: TaskContext) -> int:
    """The first attempt never ends."""
    say(f"started {ctx.task_id} {ctx.attempt}")
    if ctx.attempt == 1:
        threading.Event().wait()
    return ctx.attempt


@task("fault.until_told")
def until_told(ctx: TaskContext) -> str:
    """Ends when somebody writes a byte into the pipe of `programs.until_told`."""
    say(f"started {ctx.task_id} {ctx.attempt}")
    assert channel is not None
    return channel.recv(100).decode()


@task("fault.poison")
def poison() -> None:
    """Kills the process it runs in."""
    os.kill(os.getpid(), signal.SIGKILL)


@task("fault.shared")
def shared(ctx: TaskContext, seconds: float) -> int:
    """Says which process ran it."""
    effects.add(f"{ctx.task_id} {ctx.attempt}")
    threading.Event().wait(seconds)
    return os.getpid()
