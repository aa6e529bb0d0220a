"""An emulator of AWS behind the guard: `-m tests.support.guarded_emulator moto|ministack PORT`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

from tests.support.guard import Guard, Refusal, Request


def wsgi(app: Any, guard: Guard) -> Callable[[Any, Any], Iterable[bytes]]:
    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        path, _, query = environ["RAW_URI"].partition("?")
        body = b""
        if _tells_by_its_body(environ["REQUEST_METHOD"], query, headers):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = BytesIO(body)
        refusal = guard.look(Request(environ["REQUEST_METHOD"], path, query, headers, body))
        if refusal is None:
            answer: Iterable[bytes] = app(environ, start_response)
            return answer
        lines = [*refusal.headers.items(), ("content-length", str(len(refusal.body)))]
        start_response(f"{refusal.status} Guarded", lines)
        return [refusal.body]

    return guarded


def asgi(app: Any, guard: Guard) -> Callable[[Any, Any, Any], Any]:
    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        method, query = scope["method"], scope["query_string"].decode("latin-1")
        body = b""
        if _tells_by_its_body(method, query, headers):
            body, receive = await _read(receive)
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
        refusal = guard.look(Request(method, path, query, headers, body))
        if refusal is None:
            await app(scope, receive, send)
        else:
            await _answer(send, refusal)

    return guarded


def _tells_by_its_body(method: str, query: str, headers: dict[str, str]) -> bool:
    return "x-amz-target" in headers or (method == "POST" and "delete" in query)


async def _read(receive: Any) -> tuple[bytes, Any]:
    """The body, and a ``receive`` that brings it once more."""
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(chunks)
    once = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Any:
        return next(once, None) or await receive()

    return body, again


async def _answer(send: Any, refusal: Refusal) -> None:
    headers = {**refusal.headers, "content-length": str(len(refusal.body))}
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": lines})
    await send({"type": "http.response.body", "body": refusal.body})


def main(kind: str, port: str) -> None:
    sys.argv = [kind]
    os.environ.pop("PYTHONPATH", None)  # functions that MiniStack runs find nothing of ours
    guard = Guard()
    if kind == "moto":
        from unittest import mock

        from moto import server
        from werkzeug.serving import run_simple

        def serve(host: str, port: int, app: Any, **options: Any) -> None:
            run_simple(host, port, wsgi(app, guard), **options)

        with mock.patch.object(server, "run_simple", serve):
            server.main(["-H", "127.0.0.1", "-p", port])
    else:
        from ministack import app

        app.app = asgi(app.app, guard)
        app.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
