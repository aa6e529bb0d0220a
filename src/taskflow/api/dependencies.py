"""What routes ask for: the runtime, whose tasks, which task.

All are coroutines: FastAPI sends plain functions through the thread pool, at twice the cost of a whole request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Path, Request

from taskflow.api.errors import REQUEST_ID, TENANT_ID
from taskflow.api.http_metrics import HttpMetrics
from taskflow.bootstrap import Runtime
from taskflow.core import trace
from taskflow.core.errors import InvalidRequestError, TaskNotFoundError
from taskflow.core.ids import is_uuid
from taskflow.core.task import DEFAULT_TENANT


class LocalWorker(Protocol):
    """What the API wants to know of the worker in this process: `worker.worker.Worker`."""

    def snapshot(self) -> Mapping[str, Any]: ...


@dataclass
class Instance:
    """One API process: what its routes work with. ``draining`` is set when it is about to stop."""

    runtime: Runtime
    worker: LocalWorker | None = None
    metrics: HttpMetrics = field(default_factory=HttpMetrics)
    draining: asyncio.Event = field(default_factory=asyncio.Event)


def instance_of(request: Request) -> Instance:
    instance: Instance = request.app.state.instance
    return instance


def tenant_of(request: Request) -> str:
    """Whose tasks this request is about. Every route asks, so that authentication has one place to answer."""
    request.scope[TENANT_ID] = DEFAULT_TENANT
    return DEFAULT_TENANT


def request_id_of(request: Request) -> str | None:
    request_id: str | None = request.scope.get(REQUEST_ID)
    return request_id


def idempotency_key_of(request: Request) -> str | None:
    """The header's, in UTF-8 as keys in bodies are. Raises InvalidRequestError, also for several that differ."""
    given = set(request.headers.getlist("idempotency-key"))
    if not given:
        return None
    if len(given) > 1:
        raise _wrong_key("is there more than once")
    [key] = given
    if key.isascii():
        return key
    try:
        return key.encode("latin-1").decode()  # the framework takes header values for Latin-1
    except UnicodeDecodeError:
        raise _wrong_key("is not UTF-8") from None


def refuse_idempotency_key(request: Request) -> None:
    """For requests that no single key can be about: whoever sends one relies on it."""
    if "idempotency-key" in request.headers:
        raise _wrong_key("is for one task: give each task of a batch an idempotency_key of its own")


def _wrong_key(message: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the Idempotency-Key header {message}",
        fields=[{"field": "Idempotency-Key", "message": message}],
    )


def traceparent_of(request: Request) -> str | None:
    """W3C trace context. One that is not valid, or there more than once, counts as none."""
    given = request.headers.getlist("traceparent")
    return trace.parse(given[0]) if len(given) == 1 else None


async def _runtime(request: Request) -> Runtime:
    return instance_of(request).runtime


async def _instance(request: Request) -> Instance:
    return instance_of(request)


async def _tenant(request: Request) -> str:
    return tenant_of(request)


async def _request_id(request: Request) -> str | None:
    return request_id_of(request)


async def _task_id(
    task_id: Annotated[str, Path(json_schema_extra={"format": "uuid"}, description="Id of a task")],
) -> str:
    if not is_uuid(task_id):
        raise TaskNotFoundError("no task has this id: ids are lower-case UUIDs")
    return task_id


RuntimeParts = Annotated[Runtime, Depends(_runtime)]
ThisInstance = Annotated[Instance, Depends(_instance)]
RequestId = Annotated[str | None, Depends(_request_id)]
Tenant = Annotated[str, Depends(_tenant)]
TaskId = Annotated[str, Depends(_task_id)]
