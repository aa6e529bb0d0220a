"""`GET /health` of a process without an HTTP API: for containers, orchestrators and `taskflow cluster`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import orjson

from taskflow import __version__
from taskflow.listening import listen

_PATHS = ("/health", "/health/live", "/health/ready")
_IDLE_SECONDS = 5.0  # a connection that says nothing
_STARTING: Mapping[str, Any] = {"status": "starting"}


class HealthEndpoint:
    """200 while the worker runs, 503 while it starts, drains or has stopped; the body says which, and how busy it is.

    It asks no other system: a store that is away must not make every worker disappear. `/health/live` is 200 as long as
    this process answers at all. Raises CannotListenError.
    """

    def __init__(self, host: str, port: int) -> None:
        self._snapshot: Callable[[], Mapping[str, Any]] = lambda: _STARTING
        endpoint = self

        class Answer(_Answer):
            def state(self) -> Mapping[str, Any]:
                return endpoint._snapshot()

        listener = listen(host, port, option="--health-port, TASKFLOW_WORKER_HEALTH_PORT")
        listener.setblocking(True)
        self._server = _Server(listener.getsockname()[:2], Answer, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="taskflow-health", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.socket.getsockname()[1])

    def report(self, snapshot: Callable[[], Mapping[str, Any]]) -> None:
        """From now on ask ``snapshot`` (`Worker.snapshot`)."""
        self._snapshot = snapshot


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Who asks may go away before it is answered."""


class _Answer(BaseHTTPRequestHandler):
    server_version = f"taskflow/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def state(self) -> Mapping[str, Any]:
        raise NotImplementedError

    def do_GET(self) -> None:
        if self.path not in _PATHS:
            self.send_error(404)
            return
        state = self.state()
        is_well = state["status"] == "running" or self.path == "/health/live"
        body = orjson.dumps({**state, "version": __version__})
        self.send_response(200 if is_well else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Somebody asks every few seconds."""
