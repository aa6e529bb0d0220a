"""The one table from error codes to HTTP, and the only makers of `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from taskflow.core.errors import InvalidRequestError, TaskFlowError
from taskflow.logs import get_logger

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "taskflow.request_id"  # where the middleware leaves it in the ASGI scope
TENANT_ID = "taskflow.tenant_id"  # where a route that asked whose request it is leaves the answer, for the log
_DEFAULT_RETRY_AFTER_SECONDS = 1.0

# Code → status and title. Codes of `core/errors.py` that are not here never reach a client on purpose: 500.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "invalid_json": (400, "The body is not JSON that TaskFlow can keep"),
    "bad_request": (400, "The request cannot be understood"),
    "not_found": (404, "There is nothing here"),
    "task_not_found": (404, "No such task"),
    "artifact_not_found": (404, "No such artifact"),
    "method_not_allowed": (405, "This method is not offered here"),
    "invalid_transition": (409, "The task is in a state from which this is not possible"),
    "payload_too_large": (413, "Too large"),
    "unsupported_media_type": (415, "The body must be JSON"),
    "invalid_request": (422, "The request is not valid"),
    "invalid_cursor": (422, "The page cursor is not valid"),
    "unknown_task": (422, "No handler is registered under this name"),
    "unknown_dependency": (422, "It depends on a task that does not exist"),
    "invalid_arguments": (422, "The arguments do not fit the task"),
    "idempotency_conflict": (422, "The idempotency key was used for another request"),
    "queue_full": (429, "Too many tasks are waiting"),
    "response_too_large": (500, "The answer is too large to be sent"),
    "payload_missing": (500, "A stored payload is missing"),
    "payload_corrupt": (500, "A stored payload is damaged"),
    "store_version": (500, "The store is of another version"),
    "store_corrupt": (500, "The store is damaged"),
    "internal_error": (500, "Unexpected error"),
    "queue_unavailable": (503, "The task queue does not answer"),
    "store_unavailable": (503, "The store does not answer"),
    "store_busy": (503, "The store is busy"),
    "commit_unknown": (503, "The store went away while it was writing"),
    "store_read_only": (503, "The store cannot be written"),
    "store_full": (503, "The store's disk is full"),
    "not_ready": (503, "Not ready"),
}
_OF_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}
_REPEATABLE = frozenset({429, 503})
# What Pydantic says of these speaks to who wrote the schema.
_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "is not known, or is another word for a field that is given, too",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "string_pattern_mismatch": "has characters that are not allowed",
}


class FieldProblem(BaseModel):
    field: str = Field(description="Path of the field, e.g. `kwargs.to` or `tasks[3].priority`")
    message: str


class Problem(BaseModel):
    """RFC 9457. Programs look at `code`, people read `title` and `detail`."""

    type: str = Field(examples=["urn:taskflow:problem:invalid_arguments"])
    title: str
    status: int
    detail: str
    instance: str | None = Field(default=None, description="Path of the request")
    code: str = Field(description="Stable name of the error", examples=["invalid_arguments"])
    request_id: str | None = None
    errors: list[FieldProblem] = Field(default_factory=list, description="Fields that are wrong")


class BodyError(HTTPException):
    """A TaskFlowError on its way through FastAPI's body reading, which lets only HTTPException pass."""

    def __init__(self, error: TaskFlowError) -> None:
        super().__init__(status_code=_lookup(error.code)[0], detail=error.detail)
        self.error = error


class UnsupportedMediaTypeError(InvalidRequestError):
    """The body has another content type than JSON."""

    code = "unsupported_media_type"


class NotReadyError(TaskFlowError):
    """This instance should get no requests now. The detail says why."""

    code = "not_ready"


def problem_of(error: TaskFlowError) -> dict[str, Any]:
    """The members of a problem that do not depend on the request: an item of a batch answer."""
    status, title = _lookup(error.code)
    detail = error.detail if error.code in PROBLEMS else "See the server's log."
    return _members(error.code, status, title, detail, error.fields)


def problem_response(scope: Scope, error: TaskFlowError) -> Response:
    problem = problem_of(error)
    headers: dict[str, str] = {}
    if problem["status"] in _REPEATABLE:
        seconds = error.retry_after_seconds
        headers["Retry-After"] = _whole(
            _DEFAULT_RETRY_AFTER_SECONDS if seconds is None else seconds
        )
    if problem["status"] >= 500 and not isinstance(error, NotReadyError):
        log.error("http.failed", code=error.code, error=error.detail)
    return _respond(scope, problem, headers)


def unexpected(scope: Scope) -> Response:
    """500, telling nothing but where to look."""
    detail = "Something went wrong on the server; its log has the details under this request_id."
    return _respond(scope, _members("internal_error", *PROBLEMS["internal_error"], detail, ()), {})


def add_handlers(app: FastAPI) -> None:
    """Everything raised while a request is served becomes a problem. The unexpected: see `middleware`."""
    app.add_exception_handler(TaskFlowError, _on_taskflow_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)


async def _on_taskflow_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, TaskFlowError)
    return problem_response(request.scope, exc)


async def _on_validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    return problem_response(request.scope, invalid_request(exc.errors()))


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, StarletteHTTPException)
    if isinstance(exc, BodyError):
        return problem_response(request.scope, exc.error)
    code = _OF_STATUS.get(
        exc.status_code, "bad_request" if exc.status_code < 500 else "internal_error"
    )
    _, title = _lookup(code)
    problem = _members(code, exc.status_code, title, str(exc.detail), ())
    headers = dict(exc.headers or {})
    if exc.status_code == 405:
        headers["Allow"] = _methods(request) or headers.get("Allow", "")
    return _respond(request.scope, problem, headers)


def _methods(request: Request) -> str:
    """All methods of the path. Starlette names those of the first route that fits only: GET of `/tasks/batch`,
    because of `/tasks/{task_id}`."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> InvalidRequestError:
    """From Pydantic's errors; what was sent is not repeated."""
    fields = [
        {
            "field": _path(error["loc"]),
            "message": _MESSAGES.get(error.get("type", ""), error["msg"]),
        }
        for error in errors
    ]
    summary = "; ".join(f"{field['field']}: {field['message']}" for field in fields[:5])
    return InvalidRequestError(summary, fields=fields)


def _path(loc: Sequence[str | int]) -> str:
    source, *rest = loc or ("body",)
    path = ""
    for part in rest:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or str(source)


def _lookup(code: str) -> tuple[int, str]:
    return PROBLEMS.get(code, PROBLEMS["internal_error"])


def _members(
    code: str, status: int, title: str, detail: str, fields: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "type": f"urn:taskflow:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": list(fields),
    }


def _respond(scope: Scope, problem: dict[str, Any], headers: dict[str, str]) -> Response:
    path = scope.get("raw_path") or b""
    problem["instance"] = path.decode("ascii", "replace")[:1_000]
    problem["request_id"] = scope.get(REQUEST_ID)
    body = orjson.dumps(problem, default=str)
    return Response(body, status_code=problem["status"], headers=headers, media_type=MEDIA_TYPE)


def _whole(seconds: float) -> str:
    """`Retry-After` knows whole seconds only, and 0 would invite to hammer."""
    return str(max(1, math.ceil(seconds)))
