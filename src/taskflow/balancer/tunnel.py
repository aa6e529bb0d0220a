"""After `101 Switching Protocols`: bytes in both directions, and an end in good order for WebSockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflow.balancer.websocket import CLOSE_TO_CLIENT, CLOSE_TO_INSTANCE, FrameCounter

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.instance_connection import InstanceConnection

_CLOSING_SECONDS = 2.0  # for the client's answer to a close frame


class Tunnel:
    """Both ends of one. WebSocket frames are counted, not read: to know where a frame of ours may go in between."""

    __slots__ = (
        "_client",
        "_client_frames",
        "_closing_at",
        "_connection",
        "_has_closed_client",
        "_has_closed_instance",
        "_instance_frames",
        "_one_has_ended",
        "_shared",
        "_touched_at",
    )  # fmt: skip

    def __init__(
        self,
        client: ClientConnection,
        connection: InstanceConnection,
        protocol: bytes,
        *,
        now: float,
    ) -> None:
        self._client = client
        self._connection = connection
        self._shared = client.shared
        self._touched_at = now
        is_websocket = protocol.strip().lower() == b"websocket"
        self._client_frames = FrameCounter() if is_websocket else None
        self._instance_frames = FrameCounter() if is_websocket else None
        self._closing_at: float | None = None  # when it was asked to end
        self._one_has_ended = False  # one direction
        self._has_closed_client = False
        self._has_closed_instance = False

    def to_client(self, data: bytes) -> None:
        self._touched_at = self._shared.monotonic()
        if self._has_closed_client:
            return
        frames = self._instance_frames
        if frames is None or self._closing_at is None:
            if frames is not None:
                frames.feed(data)
            self._client.write(data)
            return
        rest = frames.up_to_boundary(data)
        self._client.write(data[:rest])
        self._close_client()

    def to_instance(self, data: bytes) -> None:
        self._touched_at = self._shared.monotonic()
        if self._has_closed_instance:
            return
        frames = self._client_frames
        if frames is None or self._closing_at is None:
            if frames is not None:
                frames.feed(data)
            self._connection.write(data)
            return
        rest = frames.up_to_boundary(data)
        self._connection.write(data[:rest])
        self._close_instance()

    def eof_from_client(self) -> bool:
        """Whether the other direction goes on."""
        if self._has_closed_instance or self._one_has_ended:
            return False
        self._one_has_ended = True
        self._connection.write_eof()
        return True

    def eof_from_instance(self) -> bool:
        if self._has_closed_client:
            return True  # it has its close frame, the client still answers ours
        if self._one_has_ended:
            return False
        self._one_has_ended = True
        return self._client.write_eof()

    def drain(self) -> None:
        """The balancer stops: a WebSocket is closed with 1001 (going away) at both ends, between two frames."""
        if self._client_frames is None or self._closing_at is not None:
            return
        self._closing_at = self._shared.monotonic()
        self._close_client()
        self._close_instance()

    def check(self, now: float) -> None:
        timeout = self._shared.timeouts.tunnel
        if self._closing_at is not None:
            if now - self._closing_at > _CLOSING_SECONDS:
                self._client.close()
        elif timeout and now - self._touched_at > timeout:
            self._client.close()

    def _close_client(self) -> None:
        if self._instance_frames is not None and self._instance_frames.at_boundary:
            self._has_closed_client = True
            self._client.write(CLOSE_TO_CLIENT)

    def _close_instance(self) -> None:
        if self._client_frames is not None and self._client_frames.at_boundary:
            self._has_closed_instance = True
            self._connection.write(CLOSE_TO_INSTANCE)
