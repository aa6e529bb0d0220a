"""Request bodies: JSON by the rules of `core/jsontext`, and by its own content type."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from taskflow.api.errors import BodyError, UnsupportedMediaTypeError
from taskflow.core import jsontext
from taskflow.core.errors import InvalidJSONError

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json *(?:;.*)?", re.IGNORECASE)
_Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class JSONRoute(APIRoute):
    """A route whose body, if it takes one, is strict JSON sent as JSON.

    Another content type is refused, not guessed: browsers send `text/plain` anywhere without asking first, so a lenient
    server on a developer's machine would take tasks from any web page.
    """

    def get_route_handler(self) -> _Handle:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def with_strict_body(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            await strict.refuse_other_types()
            return await handle(strict)

        return with_strict_body


class _StrictRequest(Request):
    _value: Any
    _parsed = False

    async def refuse_other_types(self) -> None:
        given = self.headers.get("content-type")
        if given is None:
            wrong = bool(await self.body())
        else:
            wrong = given != "application/json" and _JSON.fullmatch(given) is None
        if wrong:
            raise UnsupportedMediaTypeError(f"send Content-Type: application/json, not {given}")

    async def json(self) -> Any:
        if not self._parsed:
            try:
                self._value = jsontext.loads(await self.body())
            except InvalidJSONError as exc:
                raise BodyError(exc) from exc
            self._parsed = True
        return self._value
