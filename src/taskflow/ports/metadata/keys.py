"""What several readers have in common."""

from __future__ import annotations

from typing import NamedTuple

from taskflow.ports.queue import Message


class TaskKey(NamedTuple):
    tenant_id: str
    task_id: str


class OutboxEntry(NamedTuple):
    """A message to send, and the outbox row to delete once it is sent (None: it needs none)."""

    message: Message
    entry_id: str | None
