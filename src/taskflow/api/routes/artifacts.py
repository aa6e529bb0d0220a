"""The files that handlers left with a task."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response

from taskflow.api.body import JSONRoute
from taskflow.api.dependencies import RuntimeParts, TaskId, Tenant
from taskflow.api.middleware import IS_HEAD
from taskflow.api.openapi import problems
from taskflow.api.routes import PREFIX
from taskflow.api.views import Page, page_response
from taskflow.core.artifacts import Artifact

router = APIRouter(prefix=PREFIX, route_class=JSONRoute, tags=["Tasks"])

# A file may hold anything, a page with scripts included: nothing in it is to run as a page of this server.
_HARMLESS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}


@router.get(
    "/tasks/{task_id}/artifacts", response_model=Page[Artifact], responses=problems(404, 422, 503)
)
def list_artifacts(task_id: TaskId, runtime: RuntimeParts, tenant: Tenant) -> Response:
    """The files that the task's handler has left so far, by name, whatever became of the task.

    `url` is a presigned address where the server keeps them elsewhere, else a path of this server.
    """
    artifacts = [
        artifact
        if artifact.url is not None
        else artifact.model_copy(update={"url": _path(task_id, artifact.name)})
        for artifact in runtime.artifacts.list(tenant, task_id)
    ]
    return page_response(artifacts, None)


@router.get(
    "/tasks/{task_id}/artifacts/{name}",
    response_class=Response,
    responses={
        200: {
            "description": "The file, with its own content type",
            "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}},
        },
        307: {
            "description": "It is elsewhere",
            "headers": {
                "Location": {
                    "description": "An address that works for a while, without credentials",
                    "schema": {"type": "string"},
                }
            },
        },
        **problems(404, 422, 503),
    },
)
def get_artifact(
    task_id: TaskId,
    name: Annotated[str, Path(description="Name of the artifact")],
    request: Request,
    runtime: RuntimeParts,
    tenant: Tenant,
) -> Response:
    """The content of one artifact: the file itself, or a redirect to where it is."""
    artifact = runtime.artifacts.find(tenant, task_id, name)
    is_head = IS_HEAD in request.scope
    if artifact.url is not None and not is_head:  # signed for GET alone
        return RedirectResponse(artifact.url, 307, headers={"Cache-Control": "no-store"})
    headers = {
        "Content-Type": artifact.content_type,
        "Content-Disposition": f'attachment; filename="{artifact.name}"',
        "Cache-Control": "no-store",
        **_HARMLESS,
    }
    if is_head:
        return Response(headers={**headers, "Content-Length": str(artifact.size_bytes)})
    return Response(runtime.artifacts.get(tenant, task_id, name), headers=headers)


def _path(task_id: str, name: str) -> str:
    return f"{PREFIX}/tasks/{task_id}/artifacts/{quote(name)}"
