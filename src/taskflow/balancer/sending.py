"""A request on its way to an instance: which one gets it, and when it is sent again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from taskflow.balancer.instance_connection import InstanceConnection
from taskflow.balancer.instances import is_shortage
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.request_head import IDEMPOTENT, RequestFields

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.instances import Instance

_MAX_LOGGED_PATH_CHARS = 200
_RETRY_SECONDS = 1.0


class Sending(ABC):
    """The half of an `Exchange` that goes to the instance.

    A request is sent again only when nothing of it can have taken effect: nothing was sent at all, or its method is
    idempotent, no byte of an answer has come, and all that was sent is still here.
    """

    __slots__ = (
        "_client", "_connecting", "_found_busy", "_head", "_kept", "_kept_bytes", "_timed_out", "_touched_at", "_tried",
        "attempts", "connection", "fields", "has_started", "instance", "is_blocked", "is_done", "method",
        "request_bytes", "request_id", "started_at", "target",
    )  # fmt: skip

    method: bytes
    target: bytes
    fields: RequestFields
    request_id: bytes
    request_bytes: int
    started_at: float
    _head: bytes
    _touched_at: float  # when all of the request was sent, or a byte of the answer came; for the body the client knows

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self.attempts = 0
        self.instance: Instance | None = None
        self.connection: InstanceConnection | None = None
        self.is_blocked = False  # the instance takes no more of the body for now
        self.is_done = False
        self.has_started = False  # the client has got the head of the final answer
        self._connecting: asyncio.Task[None] | None = None
        self._tried: set[Instance] | None = None
        self._timed_out = False  # while connecting
        self._found_busy = False  # an instance with as many connections as it may have
        self._kept: list[bytes] | None = []  # body: what was not sent, or may have to be sent again
        self._kept_bytes = 0

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
        self._touched_at = shared.monotonic()
        self._use(connection)
        self._client.update_reading()

    def _could_not_connect(self, instance: Instance, exc: Exception) -> None:
        """Nothing was sent: any request may go to the next one."""
        shared = self._client.shared
        shared.metrics.failed(instance.name, "connect")
        self._leave_instance()
        if is_shortage(exc):
            detail = f"no connection to an instance can be opened here: {exc.args[-1]}"
            self._refuse(
                RefusedError("too_many_connections", detail, retry_after_seconds=_RETRY_SECONDS)
            )
            return
        why = (
            "connect timeout"
            if isinstance(exc, TimeoutError)
            else (exc.args[-1] if exc.args else "refused")
        )
        shared.instances.connection_failed(instance, str(why))
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

    def _drop_instance(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()

    @abstractmethod
    def _use(self, connection: InstanceConnection) -> None:
        """Send what there is over it."""

    @abstractmethod
    def _refuse(self, error: RefusedError) -> None:
        """The client gets the balancer's own answer."""

    @abstractmethod
    def _break_off(self) -> None:
        """Half an answer is out."""
