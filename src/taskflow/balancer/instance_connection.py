"""A connection to an instance: one exchange after the other, whose answers it reads and hands on as they come."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from typing import TYPE_CHECKING, cast

from taskflow.balancer.chunked import ChunkedBody
from taskflow.balancer.framing import FramingError
from taskflow.balancer.grammar import bare_line_end
from taskflow.balancer.response_head import (
    MAX_HEAD_BYTES,
    UNTIL_CLOSE,
    InvalidAnswerError,
    ResponseHead,
    read_response_head,
)

if TYPE_CHECKING:
    from taskflow.balancer.exchange import Exchange
    from taskflow.balancer.instances import Instance

_MAX_IDLE = 512  # connections kept for one instance


class InstanceConnection(asyncio.Protocol):
    """Idle (in its instance's pool), or at the service of one exchange."""

    __slots__ = (
        "_chunks", "_exchange", "_head", "_in_head", "_is_closed", "_is_made", "_is_paused", "_is_tunnel", "_left",
        "_poll", "_reusable", "_spare", "_transport", "has_received", "idle_since", "instance",
    )  # fmt: skip

    def __init__(self, instance: Instance) -> None:
        """It counts among the instance's from now on, until it is lost or `connecting_ended` without it."""
        self.instance = instance
        instance.connections += 1
        self.idle_since = 0.0
        self.has_received = False  # a byte of the present exchange's answer
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._head = b""
        self._in_head = True
        self._is_tunnel = False
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._reusable = False
        self._poll: select.poll | None = None
        self._spare: socket.socket | None = None  # another handle of the same socket
        self._is_made = False
        self._is_closed = False
        self._is_paused = False

    # --- for exchanges

    def send(self, exchange: Exchange, data: bytes) -> None:
        """The beginning of its request. What comes back is its answer."""
        self._exchange = exchange
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def write_more(self, data: bytes) -> None:
        """The next piece of a body. The instance may answer and hang up in the middle of it; a failed write ends the
        transport, and the answer would be lost unread."""
        if self._spare is None and not self._is_closed:
            number = self._transport.get_extra_info("socket").fileno()
            self._spare = socket.socket(fileno=os.dup(number))
            self._spare.setblocking(False)
        self._transport.write(data)

    def write_eof(self) -> None:
        if not self._is_closed:
            self._transport.write_eof()

    def abandon(self) -> None:
        """The exchange has no more use for it, and there is more to come: it cannot be used again."""
        self._exchange = None
        self._drop_spare()
        self.close()

    def release(self, now: float) -> None:
        """The exchange is over; into the pool with it, if both sides can go on."""
        self._drop_spare()
        if self._reusable and not self._is_closed and self.instance.state != "removed":
            self._in_head, self.has_received = True, False
            self.rest(now)
        else:
            self._exchange = None
            self.close()

    def rest(self, now: float) -> None:
        """Into the pool: both sides can go on."""
        self._exchange = None
        idle = self.instance.idle
        if len(idle) >= _MAX_IDLE:
            self.close()
            return
        self.idle_since = now
        if self._is_paused:
            self.resume_reading()
        idle.append(self)

    @property
    def was_kept(self) -> bool:
        """Whether it had an exchange before the present one."""
        return self.idle_since > 0

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def is_quiet(self) -> bool:
        """Whether the instance has neither closed it nor said anything, up to this moment: asked before a request that
        cannot be sent twice. The event loop may not have noticed yet."""
        if self._is_closed or self._transport.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()
            number = self._transport.get_extra_info("socket").fileno()
            self._poll.register(number, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not self._poll.poll(0)

    @property
    def is_closing(self) -> bool:
        return self._is_closed or self._transport.is_closing()

    def close(self) -> None:
        if self in self.instance.idle:
            self.instance.idle.remove(self)
        if not self._is_closed:
            self._transport.abort()  # nothing of ours is left to be sent that anybody needs

    def pause_reading(self) -> None:
        if not self._is_paused and not self.is_closing:
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self.is_closing:
            self._is_paused = False
            self._transport.resume_reading()

    # --- from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        self._transport = transport
        self._is_made = True

    def connecting_ended(self, _: object) -> None:
        if not self._is_made:
            self.instance.connections -= 1

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()  # it speaks without being asked: a connection nobody can rely on
            return
        if not self.has_received and self._spare is None:
            familiar = self.instance.familiar
            if familiar is not None and exchange.familiar_answer(familiar, data):
                return
        self.has_received = True
        try:
            if self._in_head:
                self._read_head(exchange, self._head + data if self._head else data)
            elif self._is_tunnel:
                exchange.tunnel_to_client(data)
            else:
                self._read_body(exchange, data)
        except (InvalidAnswerError, FramingError) as exc:
            self._exchange = None
            self.close()
            exchange.invalid_answer(str(exc.args[0]))

    def eof_received(self) -> bool | None:
        exchange = self._exchange
        if exchange is not None and self._is_tunnel:
            return exchange.tunnel_eof_from_instance()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        if self._spare is not None:
            self._read_what_is_left(self._spare)
        self.instance.connections -= 1
        if self in self.instance.idle:
            self.instance.idle.remove(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._is_tunnel:
            exchange.tunnel_ended()
        elif not self._in_head and self._left == UNTIL_CLOSE and exc is None:
            self._reusable = False
            exchange.answer_ended()
        else:
            exchange.instance_lost(self, "reset" if exc is not None else "closed")

    def _read_what_is_left(self, spare: socket.socket) -> None:
        """What the instance said before it hung up, e.g. why it wants no more of the body."""
        self._spare = None
        with spare:
            while self._exchange is not None:
                try:
                    data = spare.recv(MAX_HEAD_BYTES)
                except OSError:
                    return
                if not data:
                    return
                self.has_received = True
                self.data_received(data)

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.block_request(True)

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.block_request(False)

    # --- reading

    def _read_head(self, exchange: Exchange, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                if len(data) > MAX_HEAD_BYTES or bare_line_end(data):
                    raise InvalidAnswerError("its head is too large, or a line ends in LF alone")
                self._head = data
                return
            if end > MAX_HEAD_BYTES:
                raise InvalidAnswerError("its head is too large")
            self._head = b""
            head = data[:end]
            answer = read_response_head(head, is_head=exchange.method == b"HEAD")
            rest = data[end:]
            if answer.status >= 200:
                break
            if answer.status == 101:
                self._switch(exchange, answer, rest)
                return
            exchange.informational(answer)
            if not rest:
                return
            data = rest
        self._in_head = False
        length = answer.body
        if length >= 0:
            more = length - len(rest)
            # What goes beyond the answer would be taken for the next one's beginning.
            self._reusable = not answer.close and more >= 0
            if more <= 0:
                if self._reusable and exchange.method != b"HEAD":
                    exchange.remember(self.instance, head)
                exchange.whole_answer(answer, rest[:length] if more else rest)
                return
            self._left = more
            exchange.answer_begins(answer)
            if rest:
                exchange.answer_body(rest)
            return
        self._reusable = not answer.close
        self._left = length
        self._chunks = ChunkedBody() if length != UNTIL_CLOSE else None
        exchange.answer_begins(answer)
        if rest:
            self._read_body(exchange, rest)

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        if self._chunks is not None:
            decoded: list[bytes] | None = [] if exchange.decodes else None
            end = self._chunks.feed(data, 0, decoded)
            piece = b"".join(decoded) if decoded is not None else data[:end]
            if piece:
                exchange.answer_body(piece)
            if self._chunks.done:
                self._chunks = None
                self._reusable &= end == len(data)
                exchange.answer_ended()
        elif self._left == UNTIL_CLOSE:
            exchange.answer_body(data)
        else:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                exchange.answer_body(data)
                return
            self._left = 0
            if left < 0:
                self._reusable = False
                data = data[:left]
            exchange.answer_body(data)
            exchange.answer_ended()

    def _switch(self, exchange: Exchange, answer: ResponseHead, rest: bytes) -> None:
        self._in_head, self._is_tunnel = False, True
        exchange.switch_protocols(answer)
        if rest and self._exchange is not None:
            exchange.tunnel_to_client(rest)
