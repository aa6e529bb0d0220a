"""The payload store: arguments, results and artifacts too large for a row."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol


class PayloadStore(Protocol):
    """Bytes by key, e.g. ``default/input/0199…``. Thread and process safe. Contract: tests/contract/payloads.

    A key is a ``/``-separated path of at least two ``[A-Za-z0-9._-]`` names, tenant first, no name starting with a dot;
    names are up to 200 characters long, those between the first and the last at least three (the file store shards by
    two). Other keys raise InvalidRequestError.
    An object is whole or absent, whatever happens while it is written, and its checksum is verified on every read.
    Raises StoreUnavailableError (StoreFullError, StoreReadOnlyError); safe to repeat.
    """

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Durable once this returns. An object that exists is replaced as a whole."""
        ...

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Raises PayloadMissingError or PayloadCorruptError naming the key."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Missing keys are ignored."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys under ``prefix``, in no particular order."""
        ...

    def url(
        self, key: str, seconds: float, *, content_type: str, filename: str | None = None
    ) -> str | None:
        """An address from which anybody who has it can read the object for ``seconds``, as ``content_type``, and as a
        download called ``filename``. None: this store has none to give. Whether the object exists is not looked at."""
        ...

    def unfinished(self, *, remove: bool = False) -> builtins.list[str]:
        """What writers that died long ago left half written, in words of this store; removed, if asked to."""
        ...

    def close(self) -> None:
        """Let go of connections and threads; what is under way is finished. Nothing may be called afterwards."""
        ...
