"""Follows a chunked body (RFC 9112 §7.1) as it streams by, so that its bytes can be passed on as they are."""

from __future__ import annotations

import re

from taskflow.balancer.forwarding import CLAIMS
from taskflow.balancer.framing import FramingError
from taskflow.balancer.grammar import FIELD

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;"
    + _TOKEN
    + rb"(?:=(?:"
    + _TOKEN
    + rb'|"[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"))?)*+'
)
_MAX_SIZE_LINE_BYTES = 256
_MAX_EXTENSION_BYTES = 16_384  # of a whole body: extensions mean nothing to anybody, and cost
_MAX_TRAILER_BYTES = 8_192
_FORBIDDEN_TRAILERS = CLAIMS | frozenset(
    {
        b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range",
        b"content-type", b"cookie", b"expect", b"host", b"keep-alive", b"max-forwards", b"proxy-authorization",
        b"range", b"set-cookie", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"via", b"x-request-id",
    }
)  # fmt: skip
_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)


class ChunkedBody:
    """One body. `feed` it what arrives, in pieces of any size."""

    __slots__ = ("_extension_bytes", "_left", "_line", "_state", "_trailer_bytes", "payload_bytes")

    def __init__(self) -> None:
        self._state = _SIZE
        self._left = 0  # of the current chunk's data
        self._line = b""  # the beginning of a line whose end has not arrived
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self.payload_bytes = 0  # announced so far, without the framing

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: bytes, start: int = 0, payload: list[bytes] | None = None) -> int:
        """Where in ``data`` the body ends, or its length if it goes on. ``payload`` collects what the chunks hold.

        Raises FramingError: what follows must not be read.
        """
        position, end = start, len(data)
        while position < end:
            if self._state == _DATA:
                taken = min(self._left, end - position)
                if payload is not None:
                    payload.append(data[position : position + taken])
                position += taken
                self._left -= taken
                if self._left == 0:
                    self._state = _DATA_END
                continue
            line, position = self._next_line(data, position)
            if line is None:
                break
            if self._state == _SIZE:
                self._begin_chunk(line)
            elif self._state == _DATA_END:
                if line:
                    raise FramingError("a chunk is longer than its size says")
                self._state = _SIZE
            else:
                self._take_trailer(line)
                if self._state == _DONE:
                    break
        return position

    def _next_line(self, data: bytes, position: int) -> tuple[bytes | None, int]:
        """The line without its CRLF, or None when its end has not arrived; where the next one begins."""
        if self._line:
            # Short: lines are limited, so joining costs little, and a CRLF may be cut in two.
            joined = self._line + data[position : position + _MAX_TRAILER_BYTES]
            found = joined.find(b"\r\n")
            if found >= 0:
                position += found + 2 - len(self._line)
                self._line = b""
                return joined[:found], position
            self._line, position = joined, len(data)
        else:
            found = data.find(b"\r\n", position)
            if found >= 0:
                return data[position:found], found + 2
            self._line, position = data[position:], len(data)
        self._refuse_early()
        return None, position

    def _refuse_early(self) -> None:
        """Without waiting for an end that may never come."""
        limits = {_SIZE: _MAX_SIZE_LINE_BYTES, _DATA_END: 1, _TRAILER: _MAX_TRAILER_BYTES}
        partial = self._line
        if (
            b"\n" in partial
            or len(partial) > limits[self._state]
            or partial.find(b"\r") not in {-1, len(partial) - 1}
        ):
            raise FramingError("a line of the chunked body is too long or does not end in CRLF")
        if self._state == _DATA_END and partial != b"\r":
            raise FramingError("a chunk is longer than its size says")

    def _begin_chunk(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line) if len(line) <= _MAX_SIZE_LINE_BYTES else None
        if match is None:
            raise FramingError("a chunk's size is not a hexadecimal number")
        self._extension_bytes += len(line) - match.end(1)
        if self._extension_bytes > _MAX_EXTENSION_BYTES:
            raise FramingError("the chunk extensions are too long")
        size = int(match[1], 16)
        self.payload_bytes += size
        self._left = size
        self._state = _DATA if size else _TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._state = _DONE
            return
        self._trailer_bytes += len(line) + 2
        whole = line + b"\r\n"
        field = FIELD.fullmatch(whole)
        if self._trailer_bytes > _MAX_TRAILER_BYTES or field is None:
            raise FramingError("a trailer is not a valid header, or the trailers are too long")
        if field[2].lower() in _FORBIDDEN_TRAILERS:
            raise FramingError("a trailer must not change how the message is read")
