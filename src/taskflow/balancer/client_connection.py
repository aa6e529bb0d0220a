"""A connection from a client: reads its requests one after the other, and writes their answers in that order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from taskflow.balancer.exchange import Exchange
from taskflow.balancer.forwarding import Peer
from taskflow.balancer.grammar import PATH_START, REQUEST_LINE, bare_line_end
from taskflow.balancer.own_pages import PREFIX, own_page
from taskflow.balancer.problems import MEDIA_TYPE, RefusedError, answer, problem_body
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

_LINGER_SECONDS = (
    2.0  # for the client to read why, before what it still sends resets the connection
)
_MAX_FAMILIAR_BYTES = 2_048
_CLOSE, _KEEP_ALIVE = b"Connection: close\r\n", b"Connection: keep-alive\r\n"


class ClientConnection(asyncio.Protocol):
    """Requests that come before the last one is answered wait in the buffer, and when that is full, in the network.

    Clients repeat their headers over a kept connection: a request that ends as the last one did, from the version on,
    has its meaning, and only what stands before is read.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_closes",
        "_closing_since",
        "_exchange",
        "_familiar_fields",
        "_familiar_tail",
        "_has_ended",
        "_head_since",
        "_in_tunnel",
        "_is_blocked",
        "_is_closing",
        "_is_counted",
        "_is_paused",
        "_peer",
        "_spare_exchange",
        "shared",
        "touched_at",
        "transport",
        "unread_body",
    )  # fmt: skip

    def __init__(self, shared: Balancer) -> None:
        self.shared = shared
        self.touched_at = 0.0
        self.transport: asyncio.Transport
        self._peer: Peer
        self._exchange: Exchange | None = None
        self._spare_exchange: Exchange | None = None
        self._buffer = b""
        self.unread_body: RequestBody | None = None  # what is still to come of the present one
        self._head_since: float | None = None  # since when a head has been incomplete
        self._familiar_tail = b""
        self._familiar_fields: RequestFields | None = None
        self._closes = False  # after the present answer
        self._has_ended = False  # the client sends no more
        self._is_closing = False
        self._closing_since = 0.0
        self._in_tunnel = False
        self._is_paused = False
        self._is_blocked = False  # the client does not read as fast as we write
        self._is_counted = False

    # --- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self.transport = transport
        self.touched_at = self._head_since = self.shared.monotonic()
        peername = transport.get_extra_info("peername")
        address = str(peername[0]) if isinstance(peername, tuple) and peername else "unknown"
        scheme = "https" if transport.get_extra_info("sslcontext") is not None else "http"
        self._peer = Peer(address, scheme=scheme, trusted=address in self.shared.trusted)
        transport.set_write_buffer_limits(high=self.shared.buffer_bytes)
        refused = self.shared.clients.admit(self, address)
        if refused is None:
            self._is_counted = True
        else:
            self._refuse(refused)
            # Nobody counts it, so nobody checks on it.
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.abort)

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

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if self._peer.scheme == "https" or (exchange is None and not self._buffer):
            return None
        if exchange is None:
            self._has_ended = True
            asyncio.get_running_loop().call_soon(self._process)
            return True
        if self._in_tunnel:
            return exchange.tunnel is not None and exchange.tunnel.eof_from_client()
        if self.unread_body is not None:
            return None
        self._has_ended = True  # it has said all it wants to say, and waits for the answers
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        if self._is_counted:
            self.shared.clients.leave(self, self._peer.address)
        self._spare_exchange = None  # a circle of references
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        self._is_blocked = True
        exchange = self._exchange
        if exchange is not None and exchange.connection is not None:
            exchange.connection.pause_reading()

    def resume_writing(self) -> None:
        self._is_blocked = False
        exchange = self._exchange
        if exchange is None:
            self._process()
        elif exchange.connection is not None:
            exchange.connection.resume_reading()

    # --- requests

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

    def _begin(
        self, method: bytes, target: bytes, fields: RequestFields, body: bytes = b""
    ) -> None:
        shared = self.shared
        if fields.closes:
            self._closes = True
        if shared.redirect is not None or target.startswith(PREFIX):
            self._answer_itself(method, target, fields)
            return
        request_id = fields.request_id or shared.new_request_id()
        head = b"".join((method, b" ", target, fields.lead, request_id, b"\r\n\r\n"))
        exchange = self._spare_exchange
        if exchange is None:
            exchange = Exchange(self)
        self._spare_exchange = None
        self._exchange = exchange
        exchange.start(method, target, fields, request_id, head)
        if body:
            exchange.request_body(body)
        exchange.send()

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

    def _answer_itself(self, method: bytes, target: bytes, fields: RequestFields) -> None:
        if fields.body_length:
            raise RefusedError("invalid_request", "a request to the balancer itself has no body")
        if fields.minor == 0:
            self._closes = True
        if self.shared.redirect is not None:
            data = self.shared.redirect.answer(target, fields.host, close=self._closes)
        else:
            data = own_page(self.shared, method, target, fields, close=self._closes)
        self.transport.write(data)
        if self._closes:
            self.close()

    # --- for the exchange

    @property
    def address(self) -> str:
        return self._peer.address

    def is_ordinary(self) -> bool:
        """Whether an answer says nothing about this connection, and may be written: no body is still to come."""
        return self.unread_body is None and not (
            self._closes or self._has_ended or self._is_closing
        )

    def write(self, data: bytes) -> None:
        if not self._is_closing:
            self.transport.write(data)

    def write_eof(self) -> bool:
        """False where it cannot be said (TLS): the whole connection ends then."""
        if self._peer.scheme == "https" or self._is_closing:
            return False
        self.transport.write_eof()
        return True

    def connection_line(self, needs_close: bool) -> bytes:
        """What the answer says about this connection."""
        ends = self._has_ended and not self._buffer
        if needs_close or self._closes or ends or self.shared.is_draining:
            self._closes = True
            return _CLOSE
        exchange = self._exchange
        return _KEEP_ALIVE if exchange is not None and exchange.fields.minor == 0 else b""

    def update_reading(self) -> None:
        """Read on, or leave what comes in the network, where the client notices."""
        if self._is_closing:
            return
        exchange = self._exchange
        if exchange is None or self._in_tunnel:
            stop = exchange is not None and exchange.is_blocked
        elif self.unread_body is not None:
            stop = not exchange.wants_body
        else:
            stop = len(self._buffer) > self.shared.buffer_bytes
        if stop != self._is_paused:
            self._is_paused = stop
            if stop:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def exchange_ended(self, *, close: bool, now: float) -> None:
        self._exchange = None
        self.touched_at = now
        if self.unread_body is not None:
            self._linger(now)
        elif close or self._closes or (self._has_ended and not self._buffer):
            self.close()
        else:
            if self._is_paused:
                self.update_reading()
            if self._buffer:
                self._head_since = now
                asyncio.get_running_loop().call_soon(self._process)

    def answered(self, exchange: Exchange, now: float) -> None:
        """`exchange_ended` for an ordinary answer."""
        self._exchange = None
        self.touched_at = now
        if exchange.renew():
            self._spare_exchange = exchange
        if self._is_paused:
            self.update_reading()
        if self._buffer:
            self._head_since = now
            asyncio.get_running_loop().call_soon(self._process)

    def begin_tunnel(self) -> None:
        self._in_tunnel = True
        data, self._buffer = self._buffer, b""
        if self._is_paused:
            self.update_reading()
        if data and self._exchange is not None:
            self._exchange.tunnel_to_instance(data)

    def problem(self, error: RefusedError, exchange: Exchange | None, *, close: bool) -> bytes:
        """The whole response that says ``error``."""
        request_id = exchange.request_id if exchange is not None else self.shared.new_request_id()
        path = exchange.logged_path if exchange is not None else ""
        headers = b"X-Request-ID: " + request_id + b"\r\n" + self.shared.extra_headers
        if error.retry_after_seconds is not None:
            headers += b"Retry-After: %d\r\n" % max(1, round(error.retry_after_seconds))
        line = self.connection_line(close or exchange is None or self.unread_body is not None)
        return answer(
            error.status,
            problem_body(error, path=path, request_id=request_id.decode()),
            content_type=MEDIA_TYPE,
            headers=headers + (b"" if line == _CLOSE else line),
            close=line == _CLOSE,
            with_body=exchange is None or exchange.method != b"HEAD",
        )

    # --- the end

    def _refuse(self, error: RefusedError) -> None:
        """Of a request that cannot be told from what follows it: nothing more is read."""
        self.shared.refused(error, self._peer.address)
        data = self.problem(error, None, close=True)
        self._buffer = b""
        self.transport.write(data)
        self._linger(self.shared.monotonic())

    def _linger(self, now: float) -> None:
        """What the client still sends is read and dropped for a moment: a reset would take our answer from it."""
        if self._is_closing:
            return
        self._is_closing, self._closing_since = True, now
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def close(self) -> None:
        """When all is written."""
        if not self._is_closing:
            self._is_closing, self._closing_since = True, self.shared.monotonic()
            self.transport.close()

    def abort(self) -> None:
        self._exchange = None
        self._is_closing = True
        self.transport.abort()

    def drain(self) -> None:
        """No further request. A WebSocket is told; an answer that is being given is finished."""
        self._closes = True
        exchange = self._exchange
        if exchange is None:
            if not self._buffer:
                self.close()
        elif exchange.tunnel is not None:
            exchange.tunnel.drain()

    def check(self, now: float) -> None:
        """Called again and again: is anything late?"""
        timeouts = self.shared.timeouts
        if self._is_closing:
            has_more = self.transport.get_write_buffer_size() > 0
            if now - self._closing_since > (timeouts.idle if has_more else _LINGER_SECONDS):
                self.transport.abort()
        elif self._exchange is not None:
            self._exchange.check(now)
        elif self._head_since is not None:
            if now - self._head_since > timeouts.head:
                if self._buffer:
                    detail = f"the head did not arrive within {timeouts.head:g} s"
                    self._refuse(RefusedError("request_timeout", detail))
                else:
                    self.close()
        elif now - self.touched_at > timeouts.keep_alive:
            self.close()
