"""One JSON line per exchange, in the shape of all other logs. Written in blocks: a system call each would cost most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from taskflow import __version__

_BLOCK_LINES = 256
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


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

    def add(
        self, *, status: int, method: str, path: str, request_id: str, client: str, instance: str | None,
        attempts: int, duration_ms: float, request_bytes: int, response_bytes: int,
    ) -> None:  # fmt: skip
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(self._now_us() / 1_000_000, UTC),
            "level": "warning" if status >= 500 else "info",
            "event": "http.request",
            "logger": "taskflow.balancer",
            "service": "balancer",
            "version": __version__,
            "request_id": request_id,
            "method": method,
            "path": path,
            "status": status,
            "client": client,
            "instance": instance,
            "attempts": attempts,
            "duration_ms": duration_ms,
            "request_bytes": request_bytes,
            "response_bytes": response_bytes,
        }
        self._lines.append(orjson.dumps(line, option=_OPTIONS))
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
