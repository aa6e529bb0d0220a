"""The body of a request as it arrives: where it ends, and that it is not too large."""

from __future__ import annotations

from taskflow.balancer.chunked import ChunkedBody
from taskflow.balancer.framing import FramingError
from taskflow.balancer.problems import RefusedError


class RequestBody:
    """``length``: of its bytes, -1 when it is chunked. ``most``: 0 for any. Raises RefusedError."""

    __slots__ = ("_chunks", "_left", "_most", "has_ended")

    def __init__(self, length: int, *, most: int) -> None:
        if most and length > most:
            raise _too_large(most)
        self._left = length
        self._chunks = ChunkedBody() if length < 0 else None
        self._most = most
        self.has_ended = False

    def take(self, data: bytes) -> int:
        """How many of the next bytes are its own. Raises RefusedError."""
        chunks = self._chunks
        if chunks is None:
            end = min(self._left, len(data))
            self._left -= end
            self.has_ended = not self._left
            return end
        try:
            end = chunks.feed(data)
        except FramingError as exc:
            raise RefusedError("bad_request", str(exc.args[0])) from None
        if self._most and chunks.payload_bytes > self._most:
            raise _too_large(self._most)
        self.has_ended = chunks.done
        return end


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        "payload_too_large", f"the body is over {most} bytes (TASKFLOW_BALANCER_MAX_BODY_BYTES)"
    )
