"""How many messages there are, asked of SQS at most every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from taskflow.adapters.queue.sqs.errors import CALL_ERRORS, complaint, field
from taskflow.adapters.queue.sqs.names import QueueNames, priority_of
from taskflow.core.errors import QueueUnavailableError
from taskflow.core.task import TaskPriority
from taskflow.ports.queue import QueueDepth

_ATTRIBUTES = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)

_NOTHING = QueueDepth(0, 0, 0)
# With somebody else's question: every request for the state of an instance asks it.
_PATIENCE_SECONDS = 1.0


class Depths:
    """Thread safe: one caller asks, the others wait for its answer, though not long. A failure is remembered, too."""

    def __init__(
        self,
        client: Any,
        names: QueueNames,
        *,
        cache_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._names = names
        self._cache_seconds = cache_seconds
        self._monotonic = monotonic
        self._lock = Lock()
        self._valid_until = 0.0
        self._depths: Mapping[TaskPriority, QueueDepth] = {}
        self._error = ""

    def get(self) -> Mapping[TaskPriority, QueueDepth]:
        """Raises QueueUnavailableError."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            raise QueueUnavailableError(f"SQS has not answered for {_PATIENCE_SECONDS:.0f} s")
        try:
            if self._monotonic() >= self._valid_until:
                self._error = ""
                depths: dict[TaskPriority, QueueDepth] = {}
                for queue in self._names.queues:
                    name = self._names.name(queue)
                    priority = TaskPriority(priority_of(queue))
                    try:
                        depths[priority] = _sum(depths.get(priority, _NOTHING), self._ask(name))
                    except CALL_ERRORS as exc:
                        said = complaint(exc)
                        self._error = f"queue {name!r}: {said.text}"
                        break
                self._depths = depths
                self._valid_until = self._monotonic() + self._cache_seconds
            if self._error:
                raise QueueUnavailableError(self._error)
            return self._depths
        finally:
            self._lock.release()

    def _ask(self, name: str) -> QueueDepth:
        answer = self._client.get_queue_attributes(
            QueueUrl=self._names.url(self._client, name), AttributeNames=list(_ATTRIBUTES)
        )
        attributes = field(answer, "Attributes")
        return QueueDepth(*(int(field(attributes, attribute)) for attribute in _ATTRIBUTES))


def _sum(one: QueueDepth, other: QueueDepth) -> QueueDepth:
    return QueueDepth(*map(sum, zip(one, other, strict=True)))
