"""What surrounds every request: its id, its duration, its limit, and an answer whatever happens.

Plain ASGI: Starlette's BaseHTTPMiddleware costs a task and two queues per request. From the outside in:
`RequestLog`, CORS if configured, `AnswerHead`, `CatchErrors`, `BodyLimit`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.api.errors import REQUEST_ID, TENANT_ID, BodyError, problem_response, unexpected
from taskflow.api.http_metrics import HttpMetrics
from taskflow.core.errors import PayloadTooLargeError
from taskflow.logs import bound_contextvars, get_logger
from taskflow.ports.clock import Clock

log = get_logger(__name__)

_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CLIENT_GONE = 499  # nginx's: nobody was left to answer
_POLLED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})  # logged at debug
_UNMATCHED = "unmatched"
_MAX_LOGGED_PATH_CHARS = 200


class RequestLog:
    """Gives each request its id (a valid `X-Request-ID` is taken over), returns it, counts, times and logs."""

    def __init__(
        self, app: ASGIApp, *, clock: Clock, new_id: Callable[[], str], metrics: HttpMetrics
    ) -> None:
        self._app = app
        self._clock = clock
        self._new_id = new_id
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = self._clock.monotonic()
        request_id = _given_id(scope) or self._new_id()
        scope[REQUEST_ID] = request_id
        id_header = (b"x-request-id", request_id.encode())
        status = _CLIENT_GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                self._record(scope, status, self._clock.monotonic() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method: str = scope["method"]
        route: str = getattr(scope.get("route"), "path", None) or _UNMATCHED
        self._metrics.observe(method, route, status, seconds)
        write = log.warning if status >= 500 else log.debug if route in _POLLED else log.info
        fields = {"method": method, "path": _path(scope), "status": status}
        if (task_id := scope.get("path_params", {}).get("task_id")) is not None:
            fields["task_id"] = task_id
        if (tenant_id := scope.get(TENANT_ID)) is not None:
            fields["tenant_id"] = tenant_id
        write("http.request", **fields, route=route, duration_ms=round(seconds * 1_000, 3))


IS_HEAD = "taskflow.head"  # in the scope: for routes whose answer is large, or elsewhere


class AnswerHead:
    """HEAD is answered as GET would be, without the body: for every path, as RFC 9110 §9.1 asks of servers.

    Routes of FastAPI are of the methods they name, and monitors look at `/health` with HEAD.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # The server goes by its own scope: what it is told there would make it expect a body.
        inside = {**scope, "method": "GET", IS_HEAD: True}
        try:
            await self._app(inside, receive, send_without_body)
        finally:
            scope.update({**inside, "method": "HEAD"})  # what the log wants to know: route, tenant


class CatchErrors:
    """An exception nobody handled becomes a problem of status 500; the log gets the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except ClientDisconnect:
            return  # in the middle of its own request: there is nobody to answer, and nothing to mend
        except Exception:  # the last frame of a request: it is logged, and answered
            log.exception("http.failed", code="internal_error")
            if started:
                raise  # the server cuts the connection: the client must not take half an answer for a whole
            await unexpected(scope)(scope, receive, send)


class BodyLimit:
    """413 for bodies over the limit: at once where the length is declared, else as soon as it is passed.

    Nothing over the limit is kept in memory. A declared length is enforced by the server itself.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = _content_length(scope)
        if declared is None:
            await self._app(scope, self._counting(receive), send)
        elif declared <= self._max_body_bytes:
            await self._app(scope, receive, send)
        else:
            await problem_response(scope, self._too_large())(scope, receive, send)

    def _counting(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                raise BodyError(self._too_large())
            return message

        return counted

    def _too_large(self) -> PayloadTooLargeError:
        limit = self._max_body_bytes
        return PayloadTooLargeError(f"the body is over {limit} bytes (TASKFLOW_MAX_BODY_BYTES)")


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _GIVEN_ID.fullmatch(value) else None
    return None


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _path(scope: Scope) -> str:
    """As it was sent, without the query: clients put secrets there."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.decode("ascii", "backslashreplace")[:_MAX_LOGGED_PATH_CHARS]
