"""Submitting, looking, cancelling, running again."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any

import orjson
from anyio import to_thread
from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response

from taskflow.api import examples
from taskflow.api.body import HotRoute, JSONRoute
from taskflow.api.dependencies import (
    Instance,
    RequestId,
    RuntimeParts,
    TaskId,
    Tenant,
    ThisInstance,
    idempotency_key_of,
    instance_of,
    request_id_of,
    tenant_of,
    traceparent_of,
)
from taskflow.api.openapi import problems, with_body
from taskflow.api.routes import PREFIX
from taskflow.api.schemas import HistoryQuery, SubmitTask, TaskQuery, WaitQuery
from taskflow.api.views import AcceptedTask, Page, accepted, json_response, page_response
from taskflow.core.errors import TaskFlowError
from taskflow.core.events import Event
from taskflow.core.task import Task
from taskflow.logs import bind_contextvars

router = APIRouter(prefix=PREFIX, route_class=JSONRoute, tags=["Tasks"])

_LINK = {"Location": {"description": "Where the task is", "schema": {"type": "string"}}}
_REPLAYED = {"Idempotency-Replayed": {"description": "Always true", "schema": {"type": "string"}}}
TRACEPARENT: dict[str, Any] = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "description": "W3C trace context that the task belongs to; one that is not valid is ignored",
    "schema": {"type": "string"},
}
SUBMIT: dict[str, Any] = {
    "status_code": 202,
    "response_model": AcceptedTask,
    "responses": {
        202: {"headers": _LINK},
        200: {
            "model": Task,
            "description": "The task that the same idempotency key made before",
            "headers": {**_LINK, **_REPLAYED},
        },
        **with_body(429, 503),
    },
    "openapi_extra": {
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key never runs twice: a repeated request gets the first one's task",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 255,
                    "pattern": "^[!-~]+$",
                },
            },
            TRACEPARENT,
        ]
    },
}
GET: dict[str, Any] = {"response_model": Task, "responses": problems(404, 422, 503)}


async def submit_task(
    body: Annotated[SubmitTask, Body(openapi_examples=examples.SUBMIT)], request: Request
) -> Response:
    """Accept a task. It is durable once this returns.

    Unknown tasks and wrong arguments are refused now, naming the field, not when the task runs.
    """
    runtime, tenant = instance_of(request).runtime, tenant_of(request)
    submission = body.to_submission(idempotency_key_of(request))
    submissions = runtime.submissions
    origin = {"request_id": request_id_of(request), "traceparent": traceparent_of(request)}
    if len(await request.body()) > runtime.settings.inline_payload_bytes:
        # Its arguments go into the payload store first, and the event loop does not wait for disks.
        submit = partial(submissions.submit, tenant, (submission,), **origin)
        [answer] = await to_thread.run_sync(submit)
    else:
        [answer] = await submissions.submit_async(tenant, (submission,), **origin)
    if isinstance(answer, TaskFlowError):
        raise answer
    bind_contextvars(task_id=answer.task_id)
    headers = {"Location": f"{PREFIX}/tasks/{answer.task_id}"}
    if answer.replayed:
        headers["Idempotency-Replayed"] = "true"
        get = partial(runtime.tasks.get, tenant, answer.task_id, links=True)
        task = await to_thread.run_sync(get)
        return json_response(task.model_dump_json(), 200, headers)
    content = orjson.dumps(accepted(submission.task, answer), option=orjson.OPT_UTC_Z)
    return json_response(content, 202, headers)


router.add_api_route(
    "/tasks", submit_task, methods=["POST"], route_class_override=HotRoute, **SUBMIT
)


@router.get("/tasks", response_model=Page[Task], responses=problems(422, 503))
def list_tasks(
    query: Annotated[TaskQuery, Query()], runtime: RuntimeParts, tenant: Tenant
) -> Response:
    """Tasks, newest first."""
    tasks, next_cursor = runtime.tasks.list(
        tenant, query.to_filter(), limit=query.limit, cursor=query.cursor, links=True
    )
    return page_response(tasks, next_cursor)


@router.get("/tasks/{task_id}", **GET)
async def get_task(
    task_id: TaskId,
    instance: ThisInstance,
    tenant: Tenant,
    query: Annotated[WaitQuery, Query()],
) -> Response:
    """One task with its result or error. A large result may be behind `result_url` instead."""
    if query.wait:
        task = await _wait(instance, tenant, task_id, query.wait)
    else:
        get = partial(instance.runtime.tasks.get, tenant, task_id, links=True)
        task = await to_thread.run_sync(get)
    return json_response(task.model_dump_json())


@router.get(
    "/tasks/{task_id}/history", response_model=Page[Event], responses=problems(404, 422, 503)
)
def get_history(
    task_id: TaskId, query: Annotated[HistoryQuery, Query()], runtime: RuntimeParts, tenant: Tenant
) -> Response:
    """Everything that happened to the task, oldest first."""
    after = int(query.cursor or 0)
    events = runtime.tasks.history(tenant, task_id, after=after, limit=query.limit)
    last_page = len(events) < query.limit
    return page_response(events, None if last_page else str(events[-1].event_id))


@router.post("/tasks/{task_id}/cancel", response_model=Task, responses=problems(404, 409, 503))
def cancel_task(
    task_id: TaskId, runtime: RuntimeParts, tenant: Tenant, request_id: RequestId
) -> Response:
    """Cancel a waiting task; ask a running one to stop (`cancel_requested`)."""
    task = runtime.tasks.cancel(tenant, task_id, request_id=request_id)
    return json_response(task.model_dump_json())


@router.post("/tasks/{task_id}/retry", response_model=Task, responses=problems(404, 409, 503))
def retry_task(
    task_id: TaskId, runtime: RuntimeParts, tenant: Tenant, request_id: RequestId
) -> Response:
    """Run a final task anew, with all its retries."""
    task = runtime.tasks.retry(tenant, task_id, request_id=request_id)
    return json_response(task.model_dump_json())


async def _wait(instance: Instance, tenant: str, task_id: str, seconds: float) -> Task:
    """Until the task is final, time is up, or this instance is about to stop: nobody waits for a waiting client."""
    tasks, most = instance.runtime.tasks, instance.runtime.settings.max_wait_seconds
    final = asyncio.ensure_future(tasks.wait_async(tenant, task_id, min(seconds, most), links=True))
    stopping = asyncio.ensure_future(instance.draining.wait())
    try:
        await asyncio.wait((final, stopping), return_when=asyncio.FIRST_COMPLETED)
        if final.done():
            return final.result()
    finally:
        final.cancel()
        stopping.cancel()
    return await to_thread.run_sync(partial(tasks.get, tenant, task_id, links=True))
