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
from taskflow.core.errors import TaskNotFoundError
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
