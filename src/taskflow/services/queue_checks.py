"""The doctor's look at a queue that is somebody else's: whether it is there, and lets us in."""

from __future__ import annotations

from collections.abc import Callable

from taskflow.core.errors import QueueUnavailableError
from taskflow.ports.queue import TaskQueue
from taskflow.services.finding import Finding, Health


def checks_of(queue: TaskQueue) -> list[Callable[[bool], Finding]]:
    """Each takes whether to repair, which is `taskflow provision`'s and deploy.py's."""
    return [lambda fix: _queues(queue)]


def _queues(queue: TaskQueue) -> Finding:
    try:
        depths = queue.depths().values()
    except QueueUnavailableError as exc:
        return Finding(
            "queues",
            Health.PROBLEM,
            exc.detail,
            1,
            "on AWS `python deploy.py up` makes them and allows their use, on an emulator `taskflow provision`",
        )
    ready = sum(depth.ready for depth in depths)
    return Finding("queues", Health.OK, f"every queue answers; about {ready} messages are ready")
