"""A connection from a client: its requests are answered in the order they come in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from taskflow.balancer.exchange import Exchange
from taskflow.balancer.forwarding import Peer
from taskflow.balancer.own_pages import PREFIX, own_page
from taskflow.balancer.problems import MEDIA_TYPE, RefusedError, answer, problem_body
from taskflow.balancer.request_head import RequestFields
from taskflow.balancer.request_reading import RequestReading

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer

# For the client to read why, before what it still sends resets the connection.
_LINGER_SECONDS = 2.0
_CLOSE, _KEEP_ALIVE = b"Connection: close\r\n", b"Connection: keep-alive\r\n"


class ClientConnection(RequestReading):
    """Its answers, its limits, its end."""

    __slots__ = (
        "__weakref__", "_closes", "_closing_since", "_is_counted", "_is_paused", "_spare_exchange", "transport"
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, shared: Balancer) -> None:
        super().__init__(shared)
        self._spare_exchange: Exchange | None = None
        self._closes = False  # after the present answer
        self._closing_since = 0.0
        self._is_paused = False
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

    def _answer_itself(self, method: bytes, target: bytes, fields: RequestFields) -> None:
        redirect = self.shared.redirect
        if fields.body_length and redirect is None:
            raise RefusedError("invalid_request", "a request to the balancer itself has no body")
        if fields.minor == 0 or fields.body_length:
            self._closes = True
        if redirect is not None:
            data = redirect.answer(target, fields.host, close=self._closes)
        else:
            data = own_page(self.shared, method, target, fields, close=self._closes)
        self.transport.write(data)
        self.touched_at = self.shared.monotonic()
        if fields.body_length:
            self._buffer = b""
            self._linger(self.touched_at)
        elif self._closes:
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
