"""A Lambda function as AWS runs it: AWS's own runtime client (awslambdaric) in a process of its own, which takes its
events from a Runtime API. Here that API is a small HTTP server, and this module is what Lambda is around it:

- one process is one execution environment ("container"); it is started for the first event and kept for the next ones
- between two events the process is frozen (SIGSTOP), as Lambda freezes it, whatever its threads are doing
- when its time is up the process is killed, and the next event starts another

The protocol: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
NAME = "taskflow-test"
ARN = f"arn:aws:lambda:us-east-1:123456789012:function:{NAME}"
_START_SECONDS = 60  # a busy machine may take long to import everything
_API = "/2018-06-01/runtime"


class FunctionError(Exception):
    """The handler raised, or the module could not be imported: what the runtime reported."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        super().__init__(f"{report.get('errorType')}: {report.get('errorMessage')}")
        self.report = report


class FunctionCrashedError(Exception):
    """The process ended, or was killed because its time was up, before it answered."""


@dataclass
class Invocation:
    event: Any
    timeout_seconds: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: queue.SimpleQueue[tuple[str, Any]] = field(default_factory=queue.SimpleQueue)
    taken: threading.Event = field(default_factory=threading.Event)

    def result(self, seconds: float) -> Any:
        """What the handler returned. Raises FunctionError, FunctionCrashedError."""
        kind, value = self.answer.get(timeout=seconds)
        if kind == "response":
            return value
        raise FunctionCrashedError(value) if kind == "crashed" else FunctionError(value)


class LambdaFunction:
    """``handler`` as Lambda's configuration names it. Use it as a context manager; `invoke` is for one thread."""

    def __init__(
        self,
        handler: str,
        environment: Mapping[str, str],
        directory: Path,
        *,
        timeout_seconds: float = 60.0,
        root: Path = ROOT,
    ) -> None:
        """``root``: where its code is; this repository, or an unpacked zip."""
        self.timeout_seconds = timeout_seconds
        self._root = root
        self.log = directory / f"{handler}-{uuid.uuid4().hex[:6]}.log"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._handler = handler
        self._environment = environment
        self._directory = directory
        self._api = _RuntimeAPI(self)

    def __enter__(self) -> Self:
        self._api.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._api.stop()

    def invoke(self, event: Any, *, timeout_seconds: float | None = None) -> Any:
        """What the handler returned. Raises FunctionError, FunctionCrashedError."""
        invocation = self.begin(event, timeout_seconds=timeout_seconds)
        try:
            return invocation.result(_START_SECONDS + invocation.timeout_seconds)
        except queue.Empty:
            raise AssertionError(f"no answer:\n{self.output()[-4_000:]}") from None

    def begin(self, event: Any, *, timeout_seconds: float | None = None) -> Invocation:
        """`invoke` that does not wait; `Invocation.result` does."""
        invocation = Invocation(event, timeout_seconds or self.timeout_seconds)
        self._api.offer(invocation)
        if self.process is None or self.process.poll() is not None:
            self._start()
        return invocation

    def kill(self) -> None:
        """As when the machine under it dies."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        """All it has written so far, to stdout and stderr."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        wanted = f'"event":"{event}"'
        lines = self.output().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and wanted in line]

    def _start(self) -> None:
        environment = {
            **os.environ,
            **self._environment,
            "PYTHONPATH": f"{self._root / 'src'}:{self._root}",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.port}",
            "AWS_LAMBDA_FUNCTION_NAME": NAME,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{NAME}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "test",
            "LAMBDA_TASK_ROOT": str(self._root),
            "_HANDLER": self._handler,
        }
        self.starts += 1
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", self._handler],
                cwd=self._directory, env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=self._watch, args=[self.process, self.starts], daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes], start: int) -> None:
        self._api.ended(start, process.wait())


class _RuntimeAPI:
    """Holds at most one event that waits and one that is being handled."""

    def __init__(self, function: LambdaFunction) -> None:
        self._function = function
        self._changed = threading.Condition()
        self._offered: Invocation | None = None
        self._current: Invocation | None = None
        self._asked = 0  # the start whose process has asked for an event
        self._stopped = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def offer(self, invocation: Invocation) -> None:
        with self._changed:
            assert self._offered is None, "one event at a time"
            self._offered = invocation
            self._changed.notify_all()

    def ended(self, start: int, status: int) -> None:
        """The process of this start has ended."""
        with self._changed:
            invocation, self._current = self._current, None
            if invocation is None and self._asked < start:
                invocation, self._offered = self._offered, None
            self._asked = max(self._asked, start)
            self._changed.notify_all()
        if invocation is not None:
            invocation.answer.put(("crashed", f"the process ended with status {status}"))

    def _next(self) -> Invocation | None:
        """The process asks for an event: until there is one, it is frozen. None when it is gone."""
        function, start = self._function, self._function.starts
        process = function.process
        assert process is not None
        with self._changed:
            if self._asked == start:
                process.send_signal(signal.SIGSTOP)
            self._asked = start
            self._changed.wait_for(
                lambda: self._stopped or self._offered or process.poll() is not None
            )
            if self._stopped or process.poll() is not None:
                return None
            invocation, self._offered = self._offered, None
            self._current = invocation
            assert invocation is not None
        process.send_signal(signal.SIGCONT)
        timer = threading.Timer(invocation.timeout_seconds, self._time_is_up, [invocation])
        timer.daemon = True
        timer.start()
        invocation.taken.set()
        return invocation

    def _time_is_up(self, invocation: Invocation) -> None:
        if self._current is invocation and self._function.process is not None:
            self._function.process.kill()

    def _answered(self, kind: str, value: Any) -> None:
        with self._changed:
            invocation, self._current = self._current, None
        if invocation is not None:
            invocation.answer.put((kind, value))

    def _init_failed(self, report: Any) -> None:
        """The process ends by itself after this. Lambda answers the event with the error."""
        with self._changed:
            invocation, self._offered = self._offered, None
        if invocation is not None:
            invocation.answer.put(("error", report))

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet

            def do_GET(self) -> None:
                assert self.path == f"{_API}/invocation/next", self.path
                invocation = api._next()
                if invocation is None:
                    self.close_connection = True
                    return
                deadline = time.time() + invocation.timeout_seconds
                self._send(
                    200,
                    json.dumps(invocation.event).encode(),
                    {
                        "Content-Type": "application/json",
                        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                        "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                        "Lambda-Runtime-Invoked-Function-Arn": ARN,
                        "Lambda-Runtime-Trace-Id": "Root=1-00000000-000000000000000000000000",
                    },
                )

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
                self._send(202, b'{"status":"OK"}', {})
                self.wfile.flush()
                if self.path == f"{_API}/init/error":
                    api._init_failed(body)
                else:
                    api._answered(self.path.rpartition("/")[2], body)

            def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        return Handler
