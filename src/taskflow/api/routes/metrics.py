"""Numbers: for programs, for Prometheus, in short; and who is working."""

from __future__ import annotations

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from taskflow.api.dependencies import RuntimeParts, Tenant, ThisInstance
from taskflow.api.openapi import problems
from taskflow.api.routes import PREFIX
from taskflow.api.views import Metrics, Page, Stats, WorkerView, json_response, page_response

router = APIRouter(prefix=PREFIX, tags=["Operation"])
plain = APIRouter(
    tags=["Operation"]
)  # without the version: paths that others expect where they are

_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", response_model=Metrics, responses=problems(503))
def get_metrics(runtime: RuntimeParts, tenant: Tenant) -> Response:
    """Counts by status and priority, totals, latencies in ms, errors by class."""
    return json_response(
        orjson.dumps(runtime.insights.metrics(tenant), option=orjson.OPT_NON_STR_KEYS)
    )


@router.get("/workers", response_model=Page[WorkerView], responses=problems(503))
def list_workers(runtime: RuntimeParts) -> Response:
    """Workers that were seen lately."""
    return page_response([WorkerView.of(record) for record in runtime.insights.workers()], None)


@plain.get("/stats", response_model=Stats, responses=problems(503))
def get_stats(runtime: RuntimeParts) -> Response:
    """Queue size and workers, in short."""
    return json_response(orjson.dumps(runtime.insights.stats(), option=orjson.OPT_NON_STR_KEYS))


@plain.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics"},
        **problems(503),
    },
)
def expose_metrics(instance: ThisInstance) -> Response:
    """All metrics in Prometheus' text format."""
    content = instance.runtime.insights.prometheus() + instance.metrics.exposition()
    return Response(content, headers={"Content-Type": _TEXT_FORMAT})
