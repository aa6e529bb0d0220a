"""One request and its answer: which instance gets it, when it is tried again, and what the client is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskflow.balancer.familiar_answer import learn_answer
from taskflow.balancer.instance_connection import InstanceConnection
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.request_head import IDEMPOTENT, RequestFields
from taskflow.balancer.response_head import UNTIL_CLOSE, ResponseHead, client_head
from taskflow.balancer.tunnel import Tunnel

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.familiar_answer import FamiliarAnswer
    from taskflow.balancer.instances import Instance

_LAST_CHUNK = b"0\r\n\r\n"
_MAX_LOGGED_PATH_CHARS = 200


class Exchange:
    """Starts when a head has been read. Ends exactly once, by `_end`; what comes later is ignored.

    One that went as most do may be renewed and start again, with its client's next request.
    A request is sent again only when nothing of it can have taken effect: nothing was sent at all, or its method is
    idempotent, no byte of an answer has come, and all that was sent is still here.
    """

    __slots__ = (
        "_client",
        "_connecting",
        "_encodes",
        "_found_busy",
        "_head",
        "_kept",
        "_kept_bytes",
        "_needs_close",
        "_timed_out",
        "_touched_at",
        "_tried",
        "attempts",
        "connection",
        "decodes",
        "fields",
        "has_started",
        "instance",
        "is_blocked",
        "is_done",
        "method",
        "request_bytes",
        "request_id",
        "response_bytes",
        "started_at",
        "status",
        "target",
        "tunnel",
    )

    method: bytes
    target: bytes
    fields: RequestFields
    request_id: bytes
    request_bytes: int
    started_at: float
    _head: bytes
    _touched_at: float  # when the last byte of the request was sent, or one of the answer came

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.response_bytes = 0
        self.status = 0
        self.attempts = 0
        self.instance: Instance | None = None
        self.connection: InstanceConnection | None = None
        self.is_blocked = False  # the instance takes no more of the body for now
        self.is_done = False
        self.has_started = False  # the client has got the head of the final answer
        self.decodes = False  # the instance's chunks are unpacked for a client that knows none
        self.tunnel: Tunnel | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tried: set[Instance] | None = None
        self._timed_out = False  # while connecting
        self._found_busy = False  # an instance with as many connections as it may have
        self._kept: list[bytes] | None = []  # body: what was not sent, or may have to be sent again
        self._kept_bytes = 0
        self._encodes = False  # an answer that ends with its connection is packed into chunks
        self._needs_close = False

    def start(
        self, method: bytes, target: bytes, fields: RequestFields, request_id: bytes, head: bytes
    ) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.request_id = request_id
        self._head = head
        self.started_at = self._touched_at = self._client.shared.monotonic()
        self.request_bytes = len(head)

    @property
    def logged_path(self) -> str:
        """Without the query: clients put secrets there."""
        path = self.target.partition(b"?")[0][:_MAX_LOGGED_PATH_CHARS]
        return path.decode("ascii", "backslashreplace")

    @property
    def client_address(self) -> str:
        return self._client.address

    # --- to the instance

    def send(self) -> None:
        """To the next instance, over a kept connection if there is one."""
        shared = self._client.shared
        self.attempts += 1
        alike = shared.instances.alike
        if alike and self._tried is None:
            instance: Instance | None = shared.strategy.pick(alike, None)
        else:
            instance = shared.choose(self._tried)
        if instance is None or (self.attempts > 2 and self.attempts > len(shared.instances) + 2):
            self._refuse(
                shared.unavailable(
                    timed_out=self._timed_out,
                    found_busy=self._found_busy,
                    were_tried=bool(self._tried),
                )
            )
            return
        most = shared.limits.max_instance_connections
        if most and instance.connections >= most and not instance.idle:
            self._pass_over(instance)
            return
        self.instance = instance
        instance.active += 1
        idle = instance.idle
        while idle:
            connection = idle.pop()
            if self.method in IDEMPOTENT or connection.is_quiet():
                self._use(connection)
                return
            connection.close()
        connection = InstanceConnection(instance)
        self._connecting = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add_done_callback(connection.connecting_ended)

    def _pass_over(self, instance: Instance) -> None:
        """It has as many connections as it may have, all in use."""
        self._found_busy = True
        self.attempts -= 1
        self._exclude(instance)
        self.send()

    def _use(self, connection: InstanceConnection) -> None:
        self.connection = connection
        kept = self._kept
        if not kept:
            connection.send(self, self._head)
        else:
            connection.send(self, b"".join((self._head, *kept)))
            if self._kept_bytes > self._client.shared.buffer_bytes:
                self._kept = None

    async def _connect(self, connection: InstanceConnection) -> None:
        shared, instance = self._client.shared, connection.instance
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(shared.timeouts.connect):
                await loop.create_connection(
                    lambda: connection, instance.address.host, instance.address.port
                )
        except (OSError, TimeoutError) as exc:
            self._connecting = None
            if not self.is_done:
                self._could_not_connect(instance, exc)
            return
        self._connecting = None
        if self.is_done:
            connection.close()
            return
        shared.instances.connected(instance)
        self._touched_at = shared.monotonic()
        self._use(connection)
        self._client.update_reading()

    def _could_not_connect(self, instance: Instance, exc: Exception) -> None:
        """Nothing was sent: any request may go to the next one."""
        shared = self._client.shared
        why = (
            "connect timeout"
            if isinstance(exc, TimeoutError)
            else (exc.args[-1] if exc.args else "refused")
        )
        shared.instances.connection_failed(instance, str(why))
        shared.metrics.failed(instance.name, "connect")
        self._leave_instance()
        self._exclude(instance)
        if isinstance(exc, TimeoutError):
            self._timed_out = True
        self.send()

    def _exclude(self, instance: Instance) -> None:
        if self._tried is None:
            self._tried = set()
        self._tried.add(instance)

    def _leave_instance(self) -> None:
        self.connection = None
        if self.instance is not None:
            self.instance.active -= 1
            self.instance = None

    def request_body(self, piece: bytes) -> None:
        """The next bytes of the body, framing included."""
        self.request_bytes += len(piece)
        connection = self.connection
        if connection is not None:
            connection.write_more(piece)
            if self.method not in IDEMPOTENT:
                self._kept = None
            if self._kept is None:
                return
        elif self.is_done:
            return
        if self._kept is not None:
            self._kept.append(piece)
            self._kept_bytes += len(piece)
            if connection is not None and self._kept_bytes > self._client.shared.buffer_bytes:
                self._kept = None

    @property
    def wants_body(self) -> bool:
        """False while more of it would only pile up here."""
        if self.is_blocked:
            return False
        return self.connection is not None or self._kept_bytes <= self._client.shared.buffer_bytes

    def request_ended(self) -> None:
        self._touched_at = self._client.shared.monotonic()

    def block_request(self, blocked: bool) -> None:
        self.is_blocked = blocked
        self._client.update_reading()

    def instance_lost(self, connection: InstanceConnection, why: str) -> None:
        """The connection broke before the answer was complete."""
        if self.is_done:
            return
        shared, instance = self._client.shared, connection.instance
        # A kept connection that the instance closed meanwhile says nothing about how it is.
        was_stale = connection.was_kept and not connection.has_received
        if not was_stale:
            shared.instances.connection_failed(instance, f"connection {why}")
        shared.metrics.failed(instance.name, "stale" if was_stale else "lost")
        name = instance.name
        if self.has_started:
            self._break_off()
            return
        self._leave_instance()
        if connection.has_received or self.method not in IDEMPOTENT or self._kept is None:
            self.instance = instance  # for the log: that is where it was
            instance.active += 1
            self._refuse(
                RefusedError("instance_lost", f"{name} {why} the connection before it answered")
            )
            return
        if was_stale:
            instance.close_idle()
        else:
            self._exclude(instance)
        shared.metrics.retried(name)
        self.send()

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
        chunked = False
        if answer.body == UNTIL_CLOSE:
            chunked = self._encodes = self.fields.minor == 1
            self._needs_close = not chunked
        elif answer.body < 0:
            chunked = self.fields.minor == 1
            self.decodes = self._needs_close = not chunked
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

    def _drop_instance(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()

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
            if now - self._touched_at > timeouts.idle:
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
