"""The OpenAPI document: problems as they are really sent, and pages that show it without the internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from taskflow.api.errors import MEDIA_TYPE

_ASSETS = "/docs/assets"
_ASSET_PACKAGE = "fastapi_offline"  # carries Swagger UI and ReDoc; only its files are used
_PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}
}
_MEANINGS = {
    400: "The body is not JSON that TaskFlow can keep",
    404: "No such task",
    409: "The task is in a state from which this is not possible",
    413: "The body, or what one task carries, is too large",
    415: "The body is not sent as JSON",
    422: "The request is not valid; `errors` names the fields",
    429: "Too many tasks are waiting",
    503: "Not now: the store does not answer, or the instance is stopping",
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """For a route's ``responses``: these statuses carry a problem. 503 is possible wherever the store is asked."""
    documented: Responses = {}
    for status in statuses:
        documented[status] = {"description": _MEANINGS[status], "content": {MEDIA_TYPE: _PROBLEM}}
        if status in (429, 503):
            documented[status]["headers"] = _RETRY_AFTER
    return documented


def with_body(*statuses: int) -> Responses:
    """`problems` of a route that takes a body."""
    return problems(400, 413, 415, 422, *statuses)


def add_document(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's own way of extending the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            # FastAPI adds its own 422 to every route with a parameter; those with a real one say so themselves.
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]
            for response in responses.values():
                response.setdefault("headers", {})["X-Request-ID"] = {
                    "description": "Id of this request in the logs",
                    "schema": {"type": "string"},
                }
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def add_pages(app: FastAPI) -> None:
    """`/docs` and `/redoc` from installed files: they work offline, and nobody else learns who reads them."""
    title = app.title

    async def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title=title,
            swagger_js_url=f"{root}{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{_ASSETS}/favicon.png",
        )

    async def redoc(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        return get_redoc_html(
            openapi_url=f"{root}/openapi.json",
            title=title,
            redoc_js_url=f"{root}{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=f"{root}{_ASSETS}/favicon.png",
            with_google_fonts=False,
        )

    async def home(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    app.add_route("/", home, include_in_schema=False)
    app.add_route("/docs", docs, include_in_schema=False)
    app.add_route("/redoc", redoc, include_in_schema=False)
    app.mount(_ASSETS, StaticFiles(directory=_assets()), name="docs-assets")


def _assets() -> Path:
    spec = find_spec(_ASSET_PACKAGE)
    assert spec is not None, f"{_ASSET_PACKAGE} is a dependency"
    return Path(str(spec.origin)).parent / "static"
