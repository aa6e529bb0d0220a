"""Failed tasks: look, group, send again, put away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from taskflow.api import examples
from taskflow.api.body import JSONRoute
from taskflow.api.dependencies import RequestId, RuntimeParts, Tenant
from taskflow.api.openapi import problems, with_body
from taskflow.api.routes import PREFIX
from taskflow.api.schemas import (
    DeadLetterQuery,
    GroupQuery,
    RedriveDeadLetters,
    SelectDeadLetters,
)
from taskflow.api.views import Discarded, FailureGroupView, Page, Redriven, page_response
from taskflow.core.task import Task

router = APIRouter(prefix=f"{PREFIX}/dead-letters", route_class=JSONRoute, tags=["Dead letters"])


@router.get("", response_model=Page[Task], responses=problems(422, 503))
def list_dead_letters(
    query: Annotated[DeadLetterQuery, Query()], runtime: RuntimeParts, tenant: Tenant
) -> Response:
    """Failed tasks that nobody has put away, newest first."""
    tasks, next_cursor = runtime.dead_letters.list(
        tenant,
        task=query.task,
        fingerprint=query.fingerprint,
        limit=query.limit,
        cursor=query.cursor,
    )
    return page_response(tasks, next_cursor)


@router.get("/groups", response_model=Page[FailureGroupView], responses=problems(422, 503))
def list_failure_groups(
    query: Annotated[GroupQuery, Query()], runtime: RuntimeParts, tenant: Tenant
) -> Response:
    """Dead letters that failed alike, the largest group first."""
    groups = runtime.dead_letters.groups(tenant, limit=query.limit)
    return page_response([FailureGroupView.of(group) for group in groups], None)


@router.post("/redrive", responses=with_body(503))
def redrive(
    body: Annotated[RedriveDeadLetters, Body(openapi_examples=examples.REDRIVE)],
    runtime: RuntimeParts,
    tenant: Tenant,
    request_id: RequestId,
) -> Redriven:
    """Send failed tasks again; ids that are no dead letters are left out."""
    count = runtime.dead_letters.redrive(
        tenant,
        task_ids=body.task_ids,
        task=body.task,
        fingerprint=body.fingerprint,
        rate_per_second=body.rate_per_second,
        limit=body.limit,
        request_id=request_id,
    )
    return Redriven(redriven=count)


@router.post("/discard", responses=with_body(503))
def discard(
    body: Annotated[SelectDeadLetters, Body(openapi_examples=examples.DISCARD)],
    runtime: RuntimeParts,
    tenant: Tenant,
    request_id: RequestId,
) -> Discarded:
    """Put failed tasks away: they stay failed, but are no dead letters any more."""
    count = runtime.dead_letters.discard(
        tenant,
        task_ids=body.task_ids,
        task=body.task,
        fingerprint=body.fingerprint,
        limit=body.limit,
        request_id=request_id,
    )
    return Discarded(discarded=count)
