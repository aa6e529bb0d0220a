"""Which queue is which: names from a prefix, or full URLs, and the URLs that SQS gives for the names."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from taskflow.core.task import TaskPriority

DEAD_SUFFIX = "-dead"


class QueueNames:
    """The queue of each priority: ``urls`` wins over ``prefix``. Thread safe.

    With a prefix, SQS is asked for the URL when the queue is first used, not before: a process starts, and accepts
    tasks, while SQS is away.
    """

    def __init__(self, prefix: str, urls: Mapping[int, str] | None = None) -> None:
        self._lock = Lock()
        self._names: dict[int, str] = {
            int(priority): f"{prefix}-{priority.name.lower()}" for priority in TaskPriority
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

    def name(self, priority: int) -> str:
        return self._names[priority]

    def dead_name(self, priority: int) -> str:
        """Of its dead-letter queue."""
        return self._names[priority] + DEAD_SUFFIX

    def is_given(self, priority: int) -> bool:
        """Whether it was configured by its URL: somebody else made it."""
        return priority in self._given

    def url(self, client: Any, name: str) -> str:
        """Raises what botocore raises: the queue may be missing, SQS away."""
        url = self._urls.get(name)
        if url is None:
            answer = client.get_queue_url(QueueName=name)
            with self._lock:
                url = self._urls.setdefault(name, answer["QueueUrl"])
        return url
