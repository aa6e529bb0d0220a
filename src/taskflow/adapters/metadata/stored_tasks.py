"""Rows of the store as the tasks and moments they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from taskflow.core.task import Task, TaskError, TaskPriority, TaskStatus
from taskflow.ports.metadata import StoredTask

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stored_task(row: Any) -> StoredTask:
    args, kwargs = json_or(row.arguments, [[], {}])
    task = Task.model_construct(
        task_id=row.id,
        tenant_id=row.tenant_id,
        task=row.task,
        name=row.name,
        status=TaskStatus(row.status),
        priority=TaskPriority(row.priority),
        args=args,
        kwargs=kwargs,
        attempt=row.attempt,
        failure_count=row.failure_count,
        crash_count=row.crash_count,
        max_retries=row.max_retries,
        timeout=row.timeout_seconds,
        progress=row.progress,
        progress_message=row.progress_message,
        result=json_or(row.result, None),
        error=TaskError.model_validate_json(row.error) if row.error is not None else None,
        run_at=moment(row.run_at),
        expires_at=_moment(row.expires_at),
        created_at=moment(row.created_at),
        started_at=_moment(row.started_at),
        finished_at=_moment(row.finished_at),
        duration_ms=row.duration_ms,
        cancel_requested=bool(row.cancel_requested),
        worker_id=row.worker_id,
        depends_on=json_or(row.depends_on, []),
        idempotency_key=row.idempotency_key,
        tags=json_or(row.tags, []),
        metadata=json_or(row.metadata, {}),
        request_id=row.request_id,
        traceparent=row.traceparent,
    )
    return StoredTask(task, row.input_key, row.result_key)


def moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else moment(microseconds)


def json_or(text: str | None, default: Any) -> Any:
    return default if text is None else orjson.loads(text)
