"""The HTTP API behind a load balancer, API Gateway or a function URL: Mangum turns events into ASGI and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskflow.api.app import create_app
from taskflow.api.errors import MEDIA_TYPE, problem_response
from taskflow.core.errors import ResponseTooLargeError, TaskFlowError
from taskflow.logs import bound_contextvars, get_logger
from taskflow.serverless.container import Container, Context, remaining_seconds

log = get_logger(__name__)

# Lambda Developer Guide, "Lambda quotas"; Elastic Load Balancing, "Lambda functions as targets": all of the JSON.
_MOST_BYTES = 6_291_556
_MOST_BYTES_TO_ALB = 1_000_000
_Adapter = Callable[[Mapping[str, Any], Context], dict[str, Any]]
_HOST = "taskflow.host"  # in events: what their Host headers were, see `_apart_from_host`
_PORT = "x-forwarded-port"
_HOLD = 0.8  # of the remaining time a request may be held (`?wait=`), if the margin leaves less


class ApiFunction:
    """The application is built once; a store that does not answer then is a 503, and is asked again."""

    def __init__(self, container: Container) -> None:
        self._container = container
        stage = container.settings.lambda_base_path.strip("/")
        self._base_path = f"/{stage}" if stage else ""
        self._api: _Adapter | None = None
        try:
            self._api = self._build()
        except TaskFlowError as exc:
            log.warning("lambda.not_warm", code=exc.code, error=exc.detail)

    def __call__(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """The answer in the shape that whoever sent the event wants. Raises RuntimeError for events of other sorts."""
        with bound_contextvars(aws_request_id=context.aws_request_id):
            try:
                self._api = api = self._api or self._build()
            except TaskFlowError as exc:
                api = self._adapter(_Refusal(exc))
            try:
                event = _apart_from_host(event)
                answer: dict[str, Any] = api(event, context)
            finally:
                self._container.write_metrics()
            most = _MOST_BYTES_TO_ALB if "elb" in event["requestContext"] else _MOST_BYTES
            if len(answer["body"]) > most // 12 and len(json.dumps(answer).encode()) > most:
                error = ResponseTooLargeError(
                    f"the answer is over the {most} bytes that can be sent from here: "
                    "ask for fewer items, or fetch a large result by its result_url"
                )
                answer = self._adapter(_Refusal(error))(event, context)
            return answer

    def _build(self) -> _Adapter:
        settings = self._container.settings
        app = create_app(self._container.runtime())
        return self._adapter(
            _Invocation(
                app,
                app.state.instance.draining,
                base_path=self._base_path,
                margin_seconds=settings.lambda_margin_seconds,
            )
        )

    def _adapter(self, app: Any) -> _Adapter:
        # With a lifespan Mangum would start and stop the application for every single request.
        adapter: Any = Mangum(
            app,
            lifespan="off",
            api_gateway_base_path=self._base_path or "/",
            text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, MEDIA_TYPE],
        )
        return cast("_Adapter", adapter)


class _Invocation:
    """What a request in Lambda needs beside the application: an end of waiting before the function's end, and API
    Gateway's stage in front of the paths that are logged and sent back."""

    def __init__(
        self, app: ASGIApp, draining: asyncio.Event, *, base_path: str, margin_seconds: float
    ) -> None:
        self._app = app
        self._draining = draining  # answers requests that are held
        self._base_path = base_path
        self._margin_seconds = margin_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if self._base_path and message["type"] == "http.response.start":
                message["headers"] = [self._header(*header) for header in message["headers"]]
            await send(message)

        left = remaining_seconds(scope["aws.context"])
        timer = asyncio.get_running_loop().call_later(
            max(left - self._margin_seconds, left * _HOLD), self._draining.set
        )
        scope["headers"] += [[b"host", host.encode()] for host in scope["aws.event"][_HOST]]
        scope["root_path"] = self._base_path
        scope["path"] = self._base_path + scope["path"]  # ASGI's way; Mangum has taken it off
        scope["raw_path"] = quote(scope["path"]).encode()
        try:
            await self._app(scope, receive, send_on)
        finally:
            timer.cancel()
            self._draining.clear()

    def _header(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        stage = self._base_path.encode()
        is_path = name.lower() == b"location" and value.startswith(b"/")
        return (name, stage + value if is_path and not value.startswith(stage + b"/") else value)


def _apart_from_host(event: Any) -> Any:
    """The event without its Host headers, which are in ``_HOST`` of it instead, and without X-Forwarded-Port, which
    nobody reads.

    Mangum makes a number of what follows a colon in Host, else of that port, and so fails at the address of a load
    balancer over IPv6 (``[2600::1]``), and at whatever else somebody sends.
    """
    if not isinstance(event, Mapping):
        return event
    changed: dict[str, Any] = {**event, _HOST: []}
    for kind in ("multiValueHeaders", "headers"):
        if not (given := event.get(kind)):
            continue
        hosts = [value for name, value in given.items() if name.lower() == "host"]
        changed[kind] = {name: given[name] for name in given if name.lower() not in ("host", _PORT)}
        if hosts:
            changed[_HOST] = hosts[0] if isinstance(hosts[0], list) else hosts
    return changed


class _Refusal:
    """Answers every request with one problem."""

    def __init__(self, error: TaskFlowError) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(scope, self._error)(scope, receive, send)
