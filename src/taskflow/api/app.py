"""The HTTP application. `create_app` only assembles: it starts nothing and owns nothing it was given."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from taskflow import __version__
from taskflow.api.body import HotRoute, JSONRoute
from taskflow.api.dependencies import Instance, LocalWorker
from taskflow.api.errors import add_handlers
from taskflow.api.middleware import AnswerHead, BodyLimit, CatchErrors, RequestLog
from taskflow.api.openapi import add_document, add_pages
from taskflow.api.routes import artifacts, batch, dead_letters, handlers, health, metrics, tasks
from taskflow.bootstrap import Runtime
from taskflow.core.ids import UUID7

_DESCRIPTION = """Background tasks that are never lost.

Errors are `application/problem+json` (RFC 9457) with a stable `code`. Pages are `{"items": [...], "next_cursor": ...}`.
Every answer carries its `X-Request-ID`."""
_EXPOSED = ("X-Request-ID", "Location", "Retry-After", "Idempotency-Replayed")


def create_app(runtime: Runtime, *, worker: LocalWorker | None = None) -> FastAPI:
    """The API over ``runtime``. ``worker``: the one in this process; without it this instance is not ready."""
    instance = Instance(runtime, worker)
    app = FastAPI(
        title="TaskFlow",
        version=__version__,
        description=_DESCRIPTION,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        docs_url=None,
        redoc_url=None,
        middleware=_middleware(instance),
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.instance = instance
    add_handlers(app)
    for router in (
        tasks.router,
        _twins(),
        batch.router,
        artifacts.router,
        dead_letters.router,
        handlers.router,
        metrics.router,
        metrics.plain,
        health.router,
    ):
        app.router.routes.extend(router.routes)
    add_document(app)
    add_pages(app)
    return app


def _twins() -> APIRouter:
    """Two routes under their first, unversioned paths."""
    router = APIRouter(route_class=JSONRoute, tags=["Short paths"])
    router.add_api_route(
        "/tasks",
        tasks.submit_task,
        methods=["POST"],
        name="submit_task_short",
        route_class_override=HotRoute,
        **tasks.SUBMIT,
    )
    router.get("/tasks/{task_id}", name="get_task_short", **tasks.GET)(tasks.get_task)
    return router


def _middleware(instance: Instance) -> list[Middleware]:
    """From the outside in."""
    settings, clock = instance.runtime.settings, instance.runtime.clock
    new_id = UUID7(lambda: clock.now_us() // 1_000)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Content-Type",
            "Idempotency-Key",
            "X-Request-ID",
            "Authorization",
            "traceparent",
        ],
        expose_headers=list(_EXPOSED),
    )
    return [
        Middleware(RequestLog, clock=clock, new_id=new_id, metrics=instance.metrics),
        *([cors] if settings.cors_origins else []),
        Middleware(AnswerHead),
        Middleware(CatchErrors),
        Middleware(BodyLimit, max_body_bytes=settings.max_body_bytes),
    ]
