"""What clients get, beside `core.task.Task` and `core.events.Event`, which are shown as they are."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from taskflow.api.errors import Problem
from taskflow.api.fields import from_microseconds
from taskflow.core.registry import Handler
from taskflow.core.submission import Accepted
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import FailureGroup, WorkerRecord

T = TypeVar("T", bound=BaseModel)


class AcceptedTask(BaseModel):
    """A task that is stored and will run."""

    task_id: str
    task: str
    status: TaskStatus
    created_at: datetime
    run_at: datetime
    replayed: bool = Field(
        description="It was made by an earlier request with the same idempotency key"
    )


class Page(BaseModel, Generic[T]):
    items: list[T]
    next_cursor: str | None = Field(default=None, description="For the next page; null on the last")


class BatchAnswer(BaseModel):
    """`items[i]` answers `tasks[i]`: the accepted task, or the problem with it."""

    items: list[AcceptedTask | Problem]


class FailureGroupView(BaseModel):
    """Dead letters that failed alike."""

    fingerprint: str
    task: str
    error_type: str
    message: str
    count: int
    first_at: datetime
    last_at: datetime
    sample_task_id: str

    @classmethod
    def of(cls, group: FailureGroup) -> Self:
        values = group._asdict()
        for name in ("first_at", "last_at"):
            values[name] = from_microseconds(values[name])
        return cls(**values)


class Redriven(BaseModel):
    redriven: int = Field(description="How many were sent again")


class Discarded(BaseModel):
    discarded: int = Field(description="How many left the dead letters; they stay failed")


class HandlerView(BaseModel):
    """A registered handler. None: the default of the server's settings."""

    task: str
    description: str | None
    priority: int
    max_retries: int | None
    timeout: float | None = Field(description="Seconds one attempt may run")
    expires_in: float | None
    executor: str
    resources: dict[str, float]
    breaker: str | None
    arguments: dict[str, Any] = Field(description="JSON Schema of the arguments by name")

    @classmethod
    def of(cls, handler: Handler[..., Any]) -> Self:
        declared = handler.declared
        return cls(
            task=handler.name,
            description=inspect.getdoc(handler.function),
            priority=int(declared.priority),
            max_retries=declared.max_retries,
            timeout=declared.timeout_seconds,
            expires_in=declared.expires_in_seconds,
            executor=declared.executor,
            resources=dict(declared.resources),
            breaker=declared.breaker,
            arguments=handler.signature.json_schema,
        )


class WorkerView(BaseModel):
    worker_id: str
    hostname: str
    pid: int
    status: str = Field(
        description="running, draining, stopped, or silent: not heard of for a minute"
    )
    started_at: datetime
    seen_at: datetime = Field(description="Last sign of life")
    details: dict[str, Any]

    @classmethod
    def of(cls, record: WorkerRecord) -> Self:
        return cls(
            worker_id=record.worker_id,
            hostname=record.hostname,
            pid=record.pid,
            status=record.status,
            started_at=from_microseconds(record.started_at),
            seen_at=from_microseconds(record.seen_at),
            details=dict(record.details),
        )


class QueueMetrics(BaseModel):
    model_config = ConfigDict(extra="allow")

    pending_count: int
    running_count: int
    completed_count: int
    failed_count: int


class Metrics(BaseModel):
    model_config = ConfigDict(extra="allow")

    queue: QueueMetrics


class Stats(BaseModel):
    model_config = ConfigDict(extra="allow")

    queue_size: int
    workers: dict[str, Any] = Field(description="total, busy, idle")


class Health(BaseModel):
    status: str = Field(examples=["ok"])
    version: str


class Readiness(Health):
    checks: dict[str, str] = Field(description="What was looked at, and what was found")


def json_response(
    content: bytes | str, status_code: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """An answer whose JSON is ready: nothing is validated or converted once more."""
    return Response(
        content, status_code=status_code, headers=headers, media_type="application/json"
    )


def page_response(items: Sequence[BaseModel], next_cursor: str | None) -> Response:
    parts = ",".join(item.model_dump_json() for item in items)
    cursor = orjson.dumps(next_cursor).decode()
    return json_response(f'{{"items":[{parts}],"next_cursor":{cursor}}}')


def accepted(task: str, answer: Accepted) -> dict[str, Any]:
    """An `AcceptedTask` for `orjson`."""
    return {
        "task_id": answer.task_id,
        "task": task,
        "status": answer.status,
        "created_at": from_microseconds(answer.created_at),
        "run_at": from_microseconds(answer.run_at),
        "replayed": answer.replayed,
    }
