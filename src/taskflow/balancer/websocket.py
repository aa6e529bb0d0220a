"""Where WebSocket frames begin and end (RFC 6455 §5.2), and the close frames that are sent between two of them."""

from __future__ import annotations

_GOING_AWAY = (1001).to_bytes(2, "big")
CLOSE_TO_CLIENT = b"\x88\x02" + _GOING_AWAY
# Whoever is a client masks its frames; with a mask of zeros the payload stays as it is.
CLOSE_TO_INSTANCE = b"\x88\x82\x00\x00\x00\x00" + _GOING_AWAY
_MASKED = 0x80
_LENGTH = 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127


class FrameCounter:
    """Fed with one direction of a WebSocket from its first byte on."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose length is not complete
        self._left = 0  # of the present frame's payload

    @property
    def at_boundary(self) -> bool:
        return not self._left and not self._head

    def feed(self, data: bytes) -> None:
        position, end = 0, len(data)
        while position < end:
            position = self._step(data, position, end)

    def up_to_boundary(self, data: bytes) -> int:
        """How many bytes of ``data`` finish the present frame."""
        position, end = 0, len(data)
        while position < end and not self.at_boundary:
            position = self._step(data, position, end)
        return position

    def _step(self, data: bytes, position: int, end: int) -> int:
        if self._left:
            taken = min(self._left, end - position)
            self._left -= taken
            return position + taken
        needed = self._head_bytes() - len(self._head)
        self._head += data[position : position + needed]
        position += min(needed, end - position)
        if len(self._head) >= 2 and len(self._head) == self._head_bytes():
            self._left = self._payload_bytes()
            self._head = b""
        return position

    def _head_bytes(self) -> int:
        if len(self._head) < 2:
            return 2
        code = self._head[1] & _LENGTH
        extended = 2 if code == _TWO_BYTES else 8 if code == _EIGHT_BYTES else 0
        return 2 + extended + (4 if self._head[1] & _MASKED else 0)

    def _payload_bytes(self) -> int:
        code = self._head[1] & _LENGTH
        if code == _TWO_BYTES:
            return int.from_bytes(self._head[2:4], "big")
        return int.from_bytes(self._head[2:10], "big") if code == _EIGHT_BYTES else code
