"""A real HTTP server in a thread, answering from a table and keeping what it was asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


@dataclass
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    until: threading.Event | None = None  # the answer's body is held back until this is set


@dataclass
class Server:
    port: int
    received: list[Received]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_server(
    replies: Mapping[str, Reply] | Callable[[Received], Reply], *, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serves ``replies`` by path (404 for others)."""
    received: list[Received] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            asked = Received(self.command, self.path, self.headers, self.rfile.read(length))  # type: ignore[arg-type]
            received.append(asked)
            reply = replies(asked) if callable(replies) else replies.get(self.path, Reply(404))
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.flush()
            if reply.until is not None:
                reply.until.wait(30)
            if self.command != "HEAD":
                try:
                    self.wfile.write(reply.body)
                except OSError:
                    self.close_connection = True  # the client has read enough

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # a refused handshake
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield Server(server.server_address[1], received)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
