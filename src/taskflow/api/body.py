"""What requests carry: bodies of JSON by the rules of `core/jsontext` and by its own content type; queries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskflow.api.errors import BodyError, UnsupportedMediaTypeError, invalid_request
from taskflow.api.schemas import SEVERAL
from taskflow.core import jsontext
from taskflow.core.errors import InvalidJSONError

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json *(?:;.*)?", re.IGNORECASE)
_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class JSONRoute(APIRoute):
    """A route whose body, if it takes one, is strict JSON sent as JSON, and whose query says everything once.

    Another content type is refused, not guessed: browsers send `text/plain` anywhere without asking first, so a lenient
    server on a developer's machine would take tasks from any web page.
    """

    def get_route_handler(self) -> _Handle:
        handle = super().get_route_handler()
        if self.body_field is None:

            async def with_clear_query(request: Request) -> Response:
                _refuse_repeated(request)
                return await handle(request)

            return with_clear_query

        async def with_strict_body(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            await _refuse_other_types(strict)
            return await handle(strict)

        return with_strict_body


class HotRoute(APIRoute):
    """``async def route(body: Model, request: Request) -> Response``, described by FastAPI but not run by it.

    From bytes to model to answer: FastAPI's own way there (dependency solving, three exit stacks, parsing the content
    type as an e-mail header) costs as much as everything else about a submission.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        assert self.body_field is not None
        self.app = _hot(endpoint, self.body_field.field_info.annotation)


def _hot(
    endpoint: Callable[[Any, Request], Awaitable[Response]], model: Any
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    validate = TypeAdapter(model).validator.validate_python

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await _refuse_other_types(request)
        content = await request.body()
        try:
            body = validate(jsontext.loads(content or b"{}"))
        except ValidationError as exc:
            errors = exc.errors(include_url=False, include_context=False, include_input=False)
            wrong = [{**error, "loc": ("body", *error["loc"])} for error in errors]
            raise invalid_request(wrong) from None
        response = await endpoint(body, request)
        await response(scope, receive, send)

    return app


class _StrictRequest(Request):
    """For FastAPI, which asks a request for its JSON."""

    _value: Any
    _parsed = False

    async def json(self) -> Any:
        if not self._parsed:
            try:
                self._value = jsontext.loads(await self.body())
            except InvalidJSONError as exc:
                raise BodyError(exc) from exc
            self._parsed = True
        return self._value


def _refuse_repeated(request: Request) -> None:
    """`?tag=a&tag=b` looks like both and would be one of them."""
    counts = Counter(name for name, _ in request.query_params.multi_items())
    wrong = [
        {"loc": ("query", name), "msg": "is there more than once"}
        for name, count in counts.items()
        if count > 1 and name not in SEVERAL
    ]
    if wrong:
        raise invalid_request(wrong)


async def _refuse_other_types(request: Request) -> None:
    given = request.headers.get("content-type")
    if given is None:
        wrong = bool(await request.body())
    else:
        wrong = given != "application/json" and _JSON.fullmatch(given) is None
    if wrong:
        raise UnsupportedMediaTypeError(
            f"send Content-Type: application/json, not {given or 'none'}"
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaTypeError(f"send the body as it is, not Content-Encoding: {encoding}")
