"""Decides whether a JSON text stays in its row or goes to the payload store, and brings it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from taskflow.core.errors import PayloadTooLargeError
from taskflow.ports.payloads import PayloadStore

Kind = Literal["input", "result"]


class Stored(NamedTuple):
    """``text`` when it stays inline, else ``key`` of the object."""

    text: str | None
    key: str | None


class Payloads:
    """Texts over ``inline_bytes`` are offloaded, texts over ``max_bytes`` refused."""

    def __init__(self, store: PayloadStore, *, inline_bytes: int, max_bytes: int) -> None:
        self.store = store
        self._inline_bytes = inline_bytes
        self._max_bytes = max_bytes

    def keep(self, tenant_id: str, kind: Kind, task_id: str, text: str) -> Stored:
        """Durable in the payload store, if it goes there, once this returns. Raises PayloadTooLargeError."""
        # A character is at most four bytes: most texts need no encoding to know that they are small.
        if len(text) * 4 <= self._inline_bytes:
            return Stored(text, None)
        body = text.encode()
        self.check_size(len(body), kind)
        if len(body) <= self._inline_bytes:
            return Stored(text, None)
        key = f"{tenant_id}/{kind}/{task_id}"
        self.store.put({key: body})
        return Stored(None, key)

    def check_size(self, size: int, what: str) -> None:
        if size > self._max_bytes:
            raise PayloadTooLargeError(
                f"{what} has {size} bytes, more than TASKFLOW_MAX_PAYLOAD_BYTES ({self._max_bytes})",
                fields=[{"field": what, "message": f"at most {self._max_bytes} bytes"}],
            )

    def load(self, keys: Iterable[str]) -> dict[str, str]:
        """Texts by key. Raises PayloadMissingError, PayloadCorruptError, StoreUnavailableError."""
        wanted = list(keys)
        return (
            {key: body.decode() for key, body in self.store.get(wanted).items()} if wanted else {}
        )

    def delete(self, keys: Iterable[str]) -> None:
        self.store.delete(list(keys))
