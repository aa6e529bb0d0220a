"""One request and its answer: what the client is told, and when the exchange is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflow.balancer.familiar_answer import learn_answer
from taskflow.balancer.instance_connection import InstanceConnection
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.response_head import UNTIL_CLOSE, ResponseHead, client_head
from taskflow.balancer.sending import Sending
from taskflow.balancer.tunnel import Tunnel

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.familiar_answer import FamiliarAnswer
    from taskflow.balancer.instances import Instance

_LAST_CHUNK = b"0\r\n\r\n"


class Exchange(Sending):
    """Starts when a head has been read. Ends exactly once, by `_end`; what comes later is ignored.

    One that went as most do may be renewed and start again, with its client's next request.
    """

    __slots__ = (
        "_encodes", "_needs_close", "decodes", "response_bytes", "status", "tunnel",
    )  # fmt: skip

    def __init__(self, client: ClientConnection) -> None:
        super().__init__(client)
        self.status = 0
        self.response_bytes = 0
        self.decodes = False  # the instance's chunks are unpacked for a client that knows none
        self.tunnel: Tunnel | None = None
        self._encodes = False  # an answer that ends with its connection is packed into chunks
        self._needs_close = False

    def _use(self, connection: InstanceConnection) -> None:
        self.connection = connection
        kept = self._kept
        if not kept:
            connection.send(self, self._head)
        else:
            connection.send(self, b"".join((self._head, *kept)))
            if self._kept_bytes > self._client.shared.buffer_bytes:
                self._kept = None

    # --- to the client

    def informational(self, answer: ResponseHead) -> None:
        """100 and its like; HTTP/1.0 knows none of them."""
        if self.fields.minor == 1 and not self.is_done:
            self._client.write(answer.kept + b"\r\n")

    def familiar_answer(self, familiar: FamiliarAnswer, data: bytes) -> bool:
        """Whether ``data`` is a whole answer that begins as that one did. It is with the client then."""
        client, instance, connection = self._client, self.instance, self.connection
        assert instance is not None
        assert connection is not None
        request_id, after = self.request_id, familiar.after
        head = familiar.before if after is None else familiar.before + request_id + after
        size = len(head)
        if (
            len(data) != size + familiar.body_bytes
            or not data.startswith(head)
            or self.method == b"HEAD"
            or self.fields.minor == 0
            or not client.is_ordinary()
        ):
            return False
        self.status = familiar.status
        answer = b"".join((familiar.told_before, request_id, familiar.told_after, data[size:]))
        self.response_bytes = len(answer)
        client.transport.write(answer)
        self.connection = None
        self.is_done = True
        instance.active -= 1
        instance.failures = 0
        shared = client.shared
        now = shared.monotonic()
        connection.rest(now)
        seconds = now - self.started_at
        instance.counts.add(self.status, seconds, self.request_bytes, self.response_bytes)
        if shared.logs:
            shared.log(self, seconds)
        client.answered(self, now)
        return True

    def renew(self) -> bool:
        """Whether nothing but what `start` and an answer say is different from a new one."""
        if self._tried is not None or self.is_blocked or self._kept or self._kept is None:
            return False
        self.attempts = self.status = self.response_bytes = 0
        self.instance = None
        self.is_done = False
        return True

    def remember(self, instance: Instance, head: bytes) -> None:
        """``head`` was a whole answer's. The second time in a row that one of its length comes, it is worth it."""
        if instance.state == "removed":
            return  # its connections are not kept
        if len(head) == instance.seen_head_bytes:
            extra = self._client.shared.extra_headers
            instance.familiar = learn_answer(head, self.request_id, extra=extra)
        else:
            instance.seen_head_bytes = len(head)

    def whole_answer(self, answer: ResponseHead, body: bytes) -> None:
        head = self._begin(answer)
        data = head + body
        self.response_bytes = len(data)
        self._client.write(data)
        self._end()

    def answer_begins(self, answer: ResponseHead) -> None:
        head = self._begin(answer)
        self._touched_at = self._client.shared.monotonic()
        self.response_bytes = len(head)
        self._client.write(head)

    def _begin(self, answer: ResponseHead) -> bytes:
        client = self._client
        self.has_started = True
        self.status = answer.status
        if client.unread_body is not None:
            # The rest of the body may never come, or not all of it: no further request can follow.
            self._needs_close = True
        chunked = False
        if answer.body == UNTIL_CLOSE:
            chunked = self._encodes = self.fields.minor == 1
            self._needs_close |= not chunked
        elif answer.body < 0:
            chunked = self.fields.minor == 1
            self.decodes = not chunked
            self._needs_close |= self.decodes
        return client_head(
            answer,
            chunked=chunked,
            request_id=self.request_id,
            connection=client.connection_line(self._needs_close),
            extra=client.shared.extra_headers,
        )

    def answer_body(self, piece: bytes) -> None:
        self._touched_at = self._client.shared.monotonic()
        if self._encodes:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        self.response_bytes += len(piece)
        self._client.write(piece)

    def answer_ended(self) -> None:
        if self._encodes:
            self.response_bytes += len(_LAST_CHUNK)
            self._client.write(_LAST_CHUNK)
        self._end()

    def invalid_answer(self, why: str) -> None:
        """The connection is closed already."""
        if self.is_done:
            return
        instance = self.instance
        assert instance is not None
        shared = self._client.shared
        shared.metrics.failed(instance.name, "invalid")
        self.connection = None
        if self.has_started:
            self._break_off()
        else:
            detail = f"the answer of {instance.name} cannot be passed on: {why}"
            self._refuse(RefusedError("instance_answer_invalid", detail))

    # --- the end

    def _end(self) -> None:
        """The answer is complete."""
        self.is_done = True
        client = self._client
        now = client.shared.monotonic()
        connection, instance = self.connection, self.instance
        if instance is not None:
            instance.active -= 1
        if connection is not None:
            self.connection = None
            connection.instance.failures = 0  # the answer was its own, not ours
            if client.unread_body is None:
                connection.release(now)
            else:
                connection.abandon()
        client.shared.record(self, now)
        client.exchange_ended(close=self._needs_close, now=now)

    def refuse(self, error: RefusedError) -> None:
        """What the client sends cannot be passed on, and the instance must not take what it got for whole."""
        if self.is_done:
            return
        self._drop_instance()
        if self.has_started:
            self._break_off()
        else:
            self._needs_close = True
            self._refuse(error)

    def _refuse(self, error: RefusedError) -> None:
        self._drop_instance()
        self.status = error.status
        data = self._client.problem(error, self, close=self._needs_close)
        self.has_started = True
        self.response_bytes = len(data)
        self._client.write(data)
        self._end()

    def _break_off(self) -> None:
        """Half an answer is out: only a broken connection tells the client that there is no more."""
        self._drop_instance()
        self._close_record()
        self._client.abort()

    def client_gone(self) -> None:
        if self.is_done:
            return
        self._drop_instance()
        if self.tunnel is None:
            self.status = self.status or 499
        self._close_record()

    def _close_record(self) -> None:
        self.is_done = True
        if self.instance is not None:
            self.instance.active -= 1
        self._client.shared.record(self, self._client.shared.monotonic())

    def check(self, now: float) -> None:
        """Ends it when it takes too long."""
        if self.is_done:
            return
        timeouts = self._client.shared.timeouts
        if self.tunnel is not None:
            self.tunnel.check(now)
        elif timeouts.request and now - self.started_at > timeouts.request:
            self._time_out(f"the whole exchange took more than {timeouts.request:g} s")
        elif self.has_started:
            # A body may still be on its way: bytes in either direction are a sign of life.
            if now - max(self._touched_at, self._client.touched_at) > timeouts.idle:
                self._time_out(f"no byte for {timeouts.idle:g} s")
        elif self._client.unread_body is not None:
            # While the instance takes nothing it is the instance that is slow, else the client.
            if now - self._client.touched_at > timeouts.idle:
                if self.is_blocked or self.connection is None:
                    self._time_out(f"the instance took no byte for {timeouts.idle:g} s")
                else:
                    detail = f"the body stopped for {timeouts.idle:g} s (TASKFLOW_BALANCER_IDLE_TIMEOUT_SECONDS)"
                    self.refuse(RefusedError("request_timeout", detail))
        elif self.connection is not None and now - self._touched_at > timeouts.first_byte:
            self._time_out(f"no answer within {timeouts.first_byte:g} s")

    def _time_out(self, why: str) -> None:
        if self.instance is not None:
            self._client.shared.metrics.failed(self.instance.name, "timeout")
        if self.has_started:
            self._break_off()
        else:
            self._refuse(RefusedError("instance_timeout", why))

    # --- tunnels

    def switch_protocols(self, answer: ResponseHead) -> None:
        connection = self.connection
        if not self.fields.upgrade or answer.upgrade is None or connection is None:
            self.connection = None
            if connection is not None:
                connection.abandon()
            self.invalid_answer("it switches protocols unasked")
            return
        client = self._client
        self.has_started = True
        connection.instance.failures = 0
        self.status = 101
        head = client_head(
            answer,
            chunked=False,
            request_id=self.request_id,
            connection=b"Connection: Upgrade\r\nUpgrade: " + answer.upgrade + b"\r\n",
            extra=client.shared.extra_headers,
        )
        self.tunnel = Tunnel(client, connection, answer.upgrade, now=client.shared.monotonic())
        client.write(head)
        client.begin_tunnel()

    def tunnel_to_client(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.response_bytes += len(data)
            self.tunnel.to_client(data)

    def tunnel_to_instance(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.request_bytes += len(data)
            self.tunnel.to_instance(data)

    def tunnel_eof_from_instance(self) -> bool:
        return self.tunnel is not None and self.tunnel.eof_from_instance()

    def tunnel_ended(self) -> None:
        """The instance's end is gone: what it has sent still reaches the client."""
        if not self.is_done:
            self.connection = None
            self._close_record()
            self._client.close()
