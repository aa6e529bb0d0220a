"""Decides whether a JSON text stays in its row or goes to the payload store, and brings it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from taskflow import logs
from taskflow.core.errors import PayloadTooLargeError, StoreUnavailableError
from taskflow.ports.payloads import PayloadStore

log = logs.get_logger(__name__)

Kind = Literal["input", "result"]
_FIELDS: Mapping[Kind, str] = {"input": "arguments", "result": "result"}


class Placed(NamedTuple):
    """``text`` when it stays inline, else the ``key`` of the object and its ``body``."""

    text: str | None
    key: str | None = None
    body: bytes = b""


class Payloads:
    """Texts over ``inline_bytes`` are offloaded, texts over ``max_bytes`` refused."""

    def __init__(
        self,
        store: PayloadStore,
        *,
        inline_bytes: int,
        max_bytes: int,
        url_seconds: float = 900.0,
    ) -> None:
        self._store = store
        self._inline_bytes = inline_bytes
        self._max_bytes = max_bytes
        self._url_seconds = url_seconds

    def place(self, tenant_id: str, kind: Kind, name: str, text: str) -> Placed:
        """Where ``text`` belongs; nothing is written yet. ``name`` must be new for every text that may differ.

        Raises PayloadTooLargeError.
        """
        # A character is at most four bytes: most texts need no encoding to know that they are small.
        if len(text) * 4 <= min(self._inline_bytes, self._max_bytes):
            return Placed(text)
        body = text.encode()
        self.check_size(len(body), _FIELDS[kind])
        if len(body) <= self._inline_bytes:
            return Placed(text)
        return Placed(None, f"{tenant_id}/{kind}/{name}", body)

    def check_size(self, size: int, field: str) -> None:
        """Raises PayloadTooLargeError; ``size`` in bytes."""
        if size > self._max_bytes:
            raise PayloadTooLargeError(
                f"{field}: {size} bytes, more than TASKFLOW_MAX_PAYLOAD_BYTES ({self._max_bytes})",
                fields=[{"field": field, "message": f"at most {self._max_bytes} bytes"}],
            )

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Durable once this returns. Raises StoreUnavailableError; nothing of it stays then."""
        try:
            self._store.put(objects)
        except StoreUnavailableError:
            self.forget(list(objects))
            raise

    def load(self, keys: Iterable[str]) -> dict[str, str]:
        """Texts by key. Raises PayloadMissingError, PayloadCorruptError, StoreUnavailableError."""
        wanted = list(keys)
        return (
            {key: body.decode() for key, body in self._store.get(wanted).items()} if wanted else {}
        )

    def read(self, key: str) -> bytes:
        """Raises PayloadMissingError, PayloadCorruptError, StoreUnavailableError."""
        return self._store.get([key])[key]

    def url(
        self, key: str, *, content_type: str = "application/json", filename: str | None = None
    ) -> str | None:
        """Where it can be read for ``url_seconds`` by whoever has the address; None: only here."""
        return self._store.url(key, self._url_seconds, content_type=content_type, filename=filename)

    def forget(self, keys: Sequence[str]) -> None:
        """Delete what no row refers to. Never raises: what stays is found by `taskflow doctor`."""
        if not keys:
            return
        try:
            self._store.delete(keys)
        except StoreUnavailableError as exc:
            log.warning("payloads.left_over", count=len(keys), error=exc.detail)
