"""Messages that are still to be sent, or to be sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from taskflow.ports.metadata.keys import OutboxEntry
from taskflow.ports.queue import Message


class OutboxStore(Protocol):
    """Messages that must still be sent."""

    def lease(
        self, *, lookahead_seconds: float, lease_seconds: float, limit: int
    ) -> list[OutboxEntry]:
        """Entries due within ``lookahead_seconds``, reserved for this caller; delays are relative to now.

        Several relays may call at once: none gets what another holds (`SKIP LOCKED` on PostgreSQL).
        """
        ...

    def release(self, entry_ids: Sequence[str]) -> None:
        """End the lease of entries that could not be sent: anybody may try again."""
        ...

    def delete(self, entry_ids: Sequence[str]) -> None: ...

    def add(self, messages: Sequence[Message]) -> None:
        """Rows due after each message's delay, for messages that the queue did not accept."""
        ...

    def next_due_seconds(self) -> float | None:
        """Until the earliest entry is due (0 or less: now); None when the outbox is empty."""
        ...

    def due(self, *, limit: int) -> list[Message]:
        """Claimable tasks that are due, most urgent first: up to ``limit`` pending ones, and as many others."""
        ...

    def waiting(self, *, within_seconds: float, batch: int) -> Iterator[list[Message]]:
        """Claimable tasks due within ``within_seconds``, most urgent first: what a queue that is not durable is rebuilt
        from. So are later ones that have no outbox row, with ``within_seconds`` as delay: nothing else knows of them.
        Streams from one snapshot in lists of up to ``batch``."""
        ...


class ResendStore(Protocol):
    """What a durable queue may have forgotten."""

    def resend(self, *, silent_seconds: float, limit: int) -> int:
        """Outbox rows for claimable tasks that have been due for ``silent_seconds``, have none, and of which nothing
        was written down in that time; `task.resent` in their history. How many. Any number of processes may call.
        """
        ...
