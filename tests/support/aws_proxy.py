"""A proxy before an emulator of AWS: counts requests by operation, and can refuse, alter, delay or lose them.

with aws_proxy(ministack_url) as proxy:
    ...  # a program with AWS_ENDPOINT_URL=proxy.url
    proxy.counts["ReceiveMessage"]
    with proxy.failing("SendMessageBatch", "ThrottlingException", status=400): ...
    with proxy.hanging("SendMessageBatch") as let_go: ...
    with proxy.unreachable(): ...
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date"})
_UPSTREAM_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """``operation``: of SQS and other JSON services its name, else the method."""

    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def queue(self) -> str:
        """The name at the end of its ``QueueUrl``; empty if it has none."""
        return str(self.json.get("QueueUrl", "")).rpartition("/")[2]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @classmethod
    def of(cls, value: Any, *, status: int = 200) -> Answer:
        """In the protocol that SQS speaks."""
        return cls(
            status, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(value).encode()
        )

    @classmethod
    def error(cls, code: str, message: str = "said the proxy", *, status: int = 400) -> Answer:
        return cls.of({"__type": f"com.amazonaws.sqs#{code}", "message": message}, status=status)


Interceptor = Callable[[Request], Answer | None]


class AwsProxy:
    """Interceptors are asked in turn; the first answer counts, else the emulator's. Thread safe."""

    def __init__(self, upstream: str) -> None:
        split = urlsplit(upstream)
        assert split.hostname is not None
        assert split.port is not None
        self._upstream = (split.hostname, split.port)
        self._lock = threading.Lock()
        self._interceptors: list[Interceptor] = []
        self._connections: set[socket.socket] = set()
        self.requests: list[Request] = []
        self.latency_seconds = 0.0
        self._server = self._listen(0)
        self.port: int = self._server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def counts(self) -> Counter[str]:
        """Requests by operation, since the start or `forget`."""
        return Counter(request.operation for request in list(self.requests))

    def of(self, operation: str) -> list[Request]:
        return [request for request in list(self.requests) if request.operation == operation]

    def forget(self) -> None:
        self.requests = []

    @contextmanager
    def intercepting(self, interceptor: Interceptor) -> Iterator[None]:
        with self._lock:
            self._interceptors = [*self._interceptors, interceptor]
        try:
            yield
        finally:
            with self._lock:
                self._interceptors = [i for i in self._interceptors if i is not interceptor]

    @contextmanager
    def failing(
        self, operation: str, code: str, message: str = "said the proxy", *, status: int = 400
    ) -> Iterator[None]:
        """Every such request fails."""
        answer = Answer.error(code, message, status=status)
        with self.intercepting(lambda asked: answer if asked.operation == operation else None):
            yield

    @contextmanager
    def hanging(self, operation: str) -> Iterator[threading.Event]:
        """Such requests get no answer: their connections break once the event is set, or the block ends."""
        let_go = threading.Event()

        def hang(request: Request) -> Answer | None:
            if request.operation != operation:
                return None
            let_go.wait()
            raise ConnectionAbortedError("on purpose")

        try:
            with self.intercepting(hang):
                yield let_go
        finally:
            let_go.set()

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Nobody listens, and every connection breaks."""
        self._stop()
        try:
            yield
        finally:
            self._server = self._listen(self.port)

    def forward(self, request: Request) -> Answer:
        """What the emulator answers."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=_UPSTREAM_SECONDS)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def close(self) -> None:
        self._stop()

    def handle(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        for interceptor in self._interceptors:
            if (answer := interceptor(request)) is not None:
                return answer
        return self.forward(request)

    def _listen(self, port: int) -> ThreadingHTTPServer:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1  # headers and body in one packet

            def setup(self) -> None:
                super().setup()
                with proxy._lock:
                    proxy._connections.add(self.connection)

            def finish(self) -> None:
                with proxy._lock:
                    proxy._connections.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass  # it was broken on purpose

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                target = self.headers.get("X-Amz-Target", "")
                operation = target.rpartition(".")[2] or self.command
                asked = Request(operation, self.command, self.path, dict(self.headers), body)
                try:
                    answer = proxy.handle(asked)
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        if name.lower() not in _HOP_BY_HOP:
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    if self.command != "HEAD":
                        self.wfile.write(answer.body)
                    self.wfile.flush()
                except (OSError, http.client.HTTPException):
                    self.close_connection = True  # either side has gone away

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # connections break here on purpose

        server = Server(("127.0.0.1", port), Handler)
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return server

    def _stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has ended by itself


@contextmanager
def aws_proxy(upstream: str) -> Iterator[AwsProxy]:
    """Before the emulator at ``upstream``, in a thread of this process."""
    proxy = AwsProxy(upstream)
    try:
        yield proxy
    finally:
        proxy.close()
