"""What runs in the processes that get killed. Each says over its channel what has been answered, as soon as it has."""

from __future__ import annotations

import itertools
import os
import random
import socket
import threading
from typing import Any

from taskflow.app import TaskFlow
from taskflow.cli.program import program
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.core.task import TaskStatus
from tests.acceptance.crash import handlers  # noqa: F401 - registers the tasks
from tests.acceptance.crash.load import Wanted, wanted

THREADS = 8
PATIENCE_SECONDS = 120.0
_UNFINISHED = [status.value for status in TaskStatus if not status.is_final]


def submit_under_load(channel: socket.socket, *, seed: int) -> None:
    """Submits from eight threads, while workers run, until it is killed."""
    with TaskFlow() as app:
        channel.send(b"ready")
        threads = [
            threading.Thread(target=_submit, args=(app, channel, f"{seed}-{number}"), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _submit(app: TaskFlow, channel: socket.socket, seed: str) -> None:
    rng = random.Random(seed)
    previous: str | None = None
    for number in itertools.count():
        want = wanted(rng, key=f"{seed}-{number}", previous=previous)
        handle = app.submit_task(_submission(want))
        channel.send(f"{handle.id} {want.kind} {want.depends_on or '-'}".encode())
        previous = handle.id
        if want.again:
            again = app.submit_task(_submission(want))
            if (again.id, again.replayed) != (handle.id, True):
                channel.send(f"! {want.key} made {handle.id} and {again.id}".encode())


def _submission(want: Wanted) -> Submission:
    options: dict[str, Any] = {
        "delay": want.delay,
        "priority": want.priority,
        "idempotency_key": want.key,
        "depends_on": () if want.depends_on is None else (want.depends_on,),
    }
    return Submission(want.task, (), want.arguments, SubmitOptions.of(**options))


def dev(channel: socket.socket) -> None:
    """`taskflow dev`: what it prints goes to the channel, its address first of all."""
    os.dup2(channel.fileno(), 1)
    program(["dev", "--port", "0"])


def drain(channel: socket.socket) -> None:
    """Works until every task is final, and ends in good order."""
    with TaskFlow() as app:
        while unfinished := app.list(status=_UNFINISHED, limit=200).items:
            for task in unfinished:
                if not app.wait(task.task_id, PATIENCE_SECONDS).status.is_final:
                    raise AssertionError(f"waits for ever: {app.get(task.task_id)!r}")
        channel.send(b"drained")
