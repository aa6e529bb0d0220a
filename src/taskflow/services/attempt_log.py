"""The one line that an attempt leaves in the log when it ends."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from taskflow import logs
from taskflow.core import trace
from taskflow.core.task import TaskPriority, TaskStatus
from taskflow.ports.metadata import ClaimedTask, Outcome

log = logs.get_logger(__name__)

_EVENT_OF = {
    TaskStatus.COMPLETED: "task.completed",
    TaskStatus.FAILED: "task.failed",
    TaskStatus.CANCELLED: "task.cancelled",
    TaskStatus.RETRYING: "task.retrying",
    TaskStatus.PENDING: "task.released",
}
_PRIORITY = tuple(priority.name.lower() for priority in TaskPriority)


def log_end(task: ClaimedTask, outcome: Outcome, status: TaskStatus) -> None:
    """``status``: what became of the task, which may have been cancelled meanwhile."""
    if outcome.error is None and not log.enabled(logging.INFO):
        return
    fields: dict[str, Any] = {
        "task": task.task,
        "task_id": task.task_id,
        "tenant_id": task.tenant_id,
        "priority": _PRIORITY[task.priority],
        "attempt": task.attempt,
        "duration_ms": round(outcome.duration_ms, 3),
        "wait_ms": round(max(0, task.started_at - task.run_at) / 1000, 3),
    }
    if task.request_id is not None:
        fields["request_id"] = task.request_id
    if task.traceparent is not None:
        fields["trace_id"] = trace.trace_id(task.traceparent)
    event = _EVENT_OF[status]
    if outcome.error is None:
        log.info(event, **fields)
        return
    error = orjson.loads(outcome.error)
    fields |= {
        "error_type": error["type"],
        "error": error["message"],
        "classification": error["classification"],
    }
    if status is TaskStatus.RETRYING:
        fields["retry_in_seconds"] = round(outcome.retry_delay_seconds, 3)
    log.warning(event, **fields)


def log_fenced(task: ClaimedTask) -> None:
    """Its lease had been lost: what became of it counts for nothing."""
    log.warning(
        "task.fenced",
        task=task.task,
        task_id=task.task_id,
        tenant_id=task.tenant_id,
        attempt=task.attempt,
    )
