"""Which queue is which: names from a prefix, or full URLs, and the URLs that SQS gives for the names.

Within this package a queue is a number: its priority, plus `LONG` if it is the one for that priority's long tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from taskflow.adapters.queue.sqs.errors import field
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import Message

DEAD_SUFFIX = "-dead"
LONG = 10


def queue_of(priority: int, *, is_long: bool) -> int:
    return priority + LONG if is_long else priority


def priority_of(queue: int) -> int:
    return queue % LONG


class QueueNames:
    """The queue of each priority: ``urls`` wins over ``prefix``. Thread safe.

    ``long_task_seconds``: tasks with a longer timeout have queues of their own, `prefix-long-priority`, whatever
    ``urls`` there are; 0: they have not.

    With a prefix, SQS is asked for the URL when the queue is first used, not before: a process starts, and accepts
    tasks, while SQS is away.
    """

    def __init__(
        self,
        prefix: str,
        urls: Mapping[int, str] | None = None,
        *,
        long_task_seconds: float = 0.0,
    ) -> None:
        self._lock = Lock()
        self._long_task_seconds = long_task_seconds
        self._names: dict[int, str] = {
            int(priority): f"{prefix}-{priority.name.lower()}" for priority in TaskPriority
        }
        if long_task_seconds:
            self._names |= {
                level + LONG: f"{prefix}-long-{level.name.lower()}" for level in TaskPriority
            }
        self._urls: dict[str, str] = {}
        self._given: set[int] = set()
        for priority, url in (urls or {}).items():
            if not url:
                continue
            self._given.add(priority)
            name = self._names[priority] = url.rstrip("/").rpartition("/")[2]
            self._urls[name] = url
            self._urls[name + DEAD_SUFFIX] = url.rstrip("/") + DEAD_SUFFIX

    @property
    def queues(self) -> tuple[int, ...]:
        return tuple(self._names)

    def queue_for(self, message: Message) -> int:
        """Where it belongs."""
        is_long = 0 < self._long_task_seconds < message.timeout_seconds
        return queue_of(message.priority, is_long=is_long)

    def name(self, queue: int) -> str:
        return self._names[queue]

    def dead_name(self, queue: int) -> str:
        """Of its dead-letter queue."""
        return self._names[queue] + DEAD_SUFFIX

    def is_given(self, queue: int) -> bool:
        """Whether it was configured by its URL: somebody else made it."""
        return queue in self._given

    def url(self, client: Any, name: str) -> str:
        """Raises what botocore raises: the queue may be missing, SQS away."""
        url = self._urls.get(name)
        if url is None:
            found = field(client.get_queue_url(QueueName=name), "QueueUrl")
            with self._lock:
                url = self._urls.setdefault(name, found)
        return url
