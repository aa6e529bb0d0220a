"""One JSON line per exchange, in the shape of all other logs. Written in blocks: a system call each would cost most."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import orjson

from taskflow import __version__

_BLOCK_LINES = 256
_MICROSECONDS = 1_000_000
# Put together by hand: a dictionary and a datetime for each line cost as much as the rest of the exchange.
_LINE = (
    b'{"ts":"%%b.%%06dZ","level":"%%b","event":"http.request","logger":"taskflow.balancer","service":"balancer",'
    b'"version":%b,"request_id":"%%b","method":"%%b","path":%%b,"status":%%d,"client":%%b,"instance":%%b,'
    b'"attempts":%%d,"duration_ms":%%.3f,"request_bytes":%%d,"response_bytes":%%d}\n'
) % orjson.dumps(__version__)


def _write_stderr(block: bytes) -> None:
    sys.stderr.flush()
    sys.stderr.buffer.write(block)
    sys.stderr.buffer.flush()


class AccessLog:
    """`flush` is called a few times a second, and at the end."""

    def __init__(
        self, now_us: Callable[[], int], write: Callable[[bytes], None] = _write_stderr
    ) -> None:
        self._now_us = now_us
        self._write = write
        self._lines: list[bytes] = []
        self._second = -1
        self._second_text = b""

    def add(
        self, status: int, method: bytes, path: str, request_id: bytes, client: str, instance: str | None,
        attempts: int, seconds: float, request_bytes: int, response_bytes: int,
    ) -> None:  # fmt: skip
        """``method`` and ``request_id`` have no characters that JSON would write in another way."""
        second, microsecond = divmod(self._now_us(), _MICROSECONDS)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        self._lines.append(
            _LINE
            % (
                self._second_text, microsecond, b"warning" if status >= 500 else b"info", request_id, method,
                orjson.dumps(path), status, orjson.dumps(client), orjson.dumps(instance), attempts,
                seconds * 1_000, request_bytes, response_bytes,
            )
        )  # fmt: skip
        if len(self._lines) >= _BLOCK_LINES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            block = b"".join(self._lines)
            self._lines.clear()
            try:
                self._write(block)
            except OSError:
                pass  # nobody reads the log any more; requests go on
