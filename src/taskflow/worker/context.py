"""The `TaskContext` that handlers in this process get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

from taskflow.core import jsontext, trace
from taskflow.core.context import ContextLog
from taskflow.logs import get_logger
from taskflow.ports.metadata import ClaimedTask
from taskflow.services.artifacts import Artifacts
from taskflow.worker.artifacts import AttemptArtifacts
from taskflow.worker.progress import checked_progress
from taskflow.worker.run import Run


class AttemptContext:
    """See `taskflow.core.context.TaskContext`. ``on_progress`` is told that there is something to write."""

    def __init__(
        self,
        run: Run,
        monotonic: Callable[[], float],
        on_progress: Callable[[], None],
        artifacts: Artifacts,
    ) -> None:
        task = run.attempt.task
        self.task_id = task.task_id
        self.tenant_id = task.tenant_id
        self.task = task.task
        self.attempt = task.attempt
        self.traceparent = task.traceparent
        self._run = run
        self._monotonic = monotonic
        self._on_progress = on_progress
        self._artifacts = artifacts

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        return metadata_of(self._run.attempt.task)

    @cached_property
    def log(self) -> ContextLog:
        return task_log(self._run.attempt.task)

    @cached_property
    def artifacts(self) -> AttemptArtifacts:
        return AttemptArtifacts(self._artifacts, self._run.attempt.task)

    @property
    def cancelled(self) -> bool:
        return self._run.reason is not None

    @property
    def seconds_left(self) -> float:
        ends_at = self._run.started_at + self._run.attempt.task.timeout_seconds
        return max(0.0, ends_at - self._monotonic())

    def progress(self, percent: float, message: str | None = None) -> None:
        self._run.progress = checked_progress(percent, message)
        self._on_progress()


def metadata_of(task: ClaimedTask) -> dict[str, Any]:
    return dict(jsontext.loads(task.metadata)) if task.metadata else {}


def bound_fields(task: ClaimedTask) -> dict[str, Any]:
    """What every line carries that is logged while the handler runs, by whatever library. None: it has none."""
    return {
        "task_id": task.task_id,
        "tenant_id": task.tenant_id,
        "attempt": task.attempt,
        "request_id": task.request_id,
    }


class Attempted(Protocol):
    """A `ClaimedTask`, or what a child process has been told of one."""

    @property
    def task(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def request_id(self) -> str | None: ...
    @property
    def traceparent(self) -> str | None: ...


def task_log(task: Attempted) -> ContextLog:
    """A logger for the handler's own lines, which say which attempt they belong to, and which request and trace."""
    fields: dict[str, Any] = {}
    if task.request_id is not None:
        fields["request_id"] = task.request_id
    if task.traceparent is not None:
        fields["trace_id"] = trace.trace_id(task.traceparent)
    return get_logger("taskflow.task").bind(
        task=task.task,
        task_id=task.task_id,
        tenant_id=task.tenant_id,
        attempt=task.attempt,
        **fields,
    )
