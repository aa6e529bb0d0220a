"""Reads a client's requests, one after the other, from what arrives."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from taskflow.balancer.forwarding import Peer
from taskflow.balancer.grammar import PATH_START, REQUEST_LINE, bare_line_end
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.request_body import RequestBody
from taskflow.balancer.request_head import (
    IDEMPOTENT,
    RequestFields,
    check_target,
    read_fields,
    refuse_request_line,
)

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer
    from taskflow.balancer.exchange import Exchange

_MAX_FAMILIAR_BYTES = 2_048


class RequestReading(asyncio.Protocol, ABC):
    """The half of a `ClientConnection` that reads.

    Requests that come before the last one is answered wait in the buffer, and when that is full, in the network.
    Clients repeat their headers over a kept connection: a request that ends as the last one did, from the version on,
    has its meaning, and only what stands before is read.
    """

    __slots__ = (
        "_buffer", "_exchange", "_familiar_fields", "_familiar_tail", "_has_ended", "_head_since", "_in_tunnel",
        "_is_blocked", "_is_closing", "_peer", "shared", "touched_at", "unread_body",
    )  # fmt: skip

    _peer: Peer

    def __init__(self, shared: Balancer) -> None:
        self.shared = shared
        self.touched_at = 0.0
        self._exchange: Exchange | None = None
        self._buffer = b""
        self.unread_body: RequestBody | None = None  # what is still to come of the present one
        self._head_since: float | None = None  # since when a head has been incomplete
        self._familiar_tail = b""
        self._familiar_fields: RequestFields | None = None
        self._has_ended = False  # the client sends no more
        self._is_closing = False
        self._is_blocked = False  # the client does not read as fast as we write
        self._in_tunnel = False

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._is_closing:
                return
            if self._buffer:
                data = self._buffer + data
            elif not self._is_blocked:
                fields, tail = self._familiar_fields, self._familiar_tail
                if fields is not None and data.endswith(tail):
                    start = PATH_START.fullmatch(data, 0, len(data) - len(tail))
                    if start is not None:
                        method, target = start.groups()
                        if method in IDEMPOTENT and len(target) <= self.shared.max_target_bytes:
                            self._head_since = None
                            self._begin(method, target, fields)
                            return
            self._buffer = data
            self._process()
        elif self.unread_body is not None:
            self.touched_at = self.shared.monotonic()
            rest = self._take_body(exchange, self.unread_body, data)
            if rest:
                self._keep(rest)
        elif self._in_tunnel:
            exchange.tunnel_to_instance(data)
        else:
            self._keep(data)

    def _process(self) -> None:
        while (
            self._buffer
            and self._exchange is None
            and not self._is_closing
            and not self._is_blocked
        ):
            try:
                if not self._read_request():
                    break
            except RefusedError as error:
                self._refuse(error)
        if self._has_ended and self._exchange is None and not self._is_blocked:
            self.close()  # what is left is no whole request

    def _read_request(self) -> bool:
        """Whether there was a whole head. Raises RefusedError."""
        shared, data = self.shared, self._buffer
        end = data.find(b"\r\n\r\n")
        limits = shared.limits
        if not 0 < end <= limits.max_head_bytes:
            return self._read_unusual(data, end)
        line = REQUEST_LINE.match(data)
        if line is None:
            if data[:2] == b"\r\n":
                return self._read_unusual(data, 0)
            raise refuse_request_line(data)
        method, target, minor = line.groups()
        fields = self._familiar_fields
        if len(target) > limits.max_target_bytes:
            raise RefusedError(
                "target_too_long", f"the target has over {limits.max_target_bytes} bytes"
            )
        tail = data[line.end(2) : end + 4]
        if fields is None or tail != self._familiar_tail:
            fields = read_fields(
                data[line.end() : end + 2],
                minor=1 if minor == b"1" else 0,
                peer=self._peer,
                max_count=limits.max_headers,
            )
        self._head_since = None
        if target[:1] != b"/" or method not in IDEMPOTENT:
            target = check_target(method, target, fields.host)
        rest = data[end + 4 :]
        if not fields.body_length:
            if len(tail) <= _MAX_FAMILIAR_BYTES:
                self._familiar_tail, self._familiar_fields = tail, fields
            self._buffer = rest
            self._begin(method, target, fields)
            return True
        body = RequestBody(fields.body_length, most=limits.max_body_bytes)
        if 0 < fields.body_length <= len(rest):
            # A small body often comes with its head: both go on together.
            self._buffer = rest[fields.body_length :]
            self._begin(method, target, fields, rest[: fields.body_length])
            return True
        self._buffer = b""
        self.unread_body = body
        self.touched_at = (
            shared.monotonic()
        )  # it may have rested for long: that was no pause of the body
        self._begin(method, target, fields)
        if rest and self._exchange is not None:
            self._buffer = self._take_body(self._exchange, body, rest)
        return True

    def _read_unusual(self, data: bytes, end: int) -> bool:
        """No end of a head where one belongs."""
        limit = self.shared.limits.max_head_bytes
        if end == 0 or data[:2] == b"\r\n":
            # An empty line may come before a request (RFC 9112 §2.2). One.
            if data[2:4] == b"\r\n":
                raise RefusedError("bad_request", "several empty lines before the request")
            self._buffer = data[2:]
            return bool(self._buffer)
        if self._head_since is None:
            self._head_since = self.shared.monotonic()
        if bare_line_end(data[: limit + 4]):
            raise RefusedError("bad_request", "a line ends in LF without CR")
        if len(data) > limit:
            if data.find(b"\r\n", 0, limit) < 0:
                raise RefusedError("target_too_long", f"the request line has over {limit} bytes")
            detail = f"the headers have over {limit} bytes (TASKFLOW_BALANCER_MAX_HEAD_BYTES)"
            raise RefusedError("headers_too_large", detail)
        return False

    def _take_body(self, exchange: Exchange, body: RequestBody, data: bytes) -> bytes:
        """What comes after the body."""
        try:
            end = body.take(data)
        except RefusedError as error:
            exchange.refuse(error)
            return b""
        if body.has_ended:
            self.unread_body = None
            exchange.request_body(data[:end] if end < len(data) else data)
            exchange.request_ended()
            return data[end:]
        exchange.request_body(data)
        if not exchange.wants_body:
            self.update_reading()
        return b""

    def _keep(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > self.shared.buffer_bytes:
            self.update_reading()

    @abstractmethod
    def _begin(
        self, method: bytes, target: bytes, fields: RequestFields, body: bytes = b""
    ) -> None:
        """The head has been read. ``body``: the whole of it, if it came along. Raises RefusedError."""

    @abstractmethod
    def _refuse(self, error: RefusedError) -> None:
        """Of a request that cannot be told from what follows it: nothing more is read."""

    @abstractmethod
    def update_reading(self) -> None:
        """Read on, or leave what comes in the network, where the client notices."""

    @abstractmethod
    def close(self) -> None:
        """When all is written."""
