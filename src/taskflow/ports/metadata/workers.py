"""Who is working."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class WorkerRecord(NamedTuple):
    worker_id: str
    hostname: str
    pid: int
    started_at: int
    seen_at: int
    status: str  # running, draining, stopped
    details: Mapping[str, Any]


class WorkerStore(Protocol):
    """Who is working. For people and for recovery, never for deciding ownership."""

    def report(self, record: WorkerRecord) -> None:
        """Insert or update; ``seen_at`` and ``started_at`` are set by the store."""

    def list(self) -> list[WorkerRecord]: ...

    def forget(self, worker_ids: Sequence[str]) -> None: ...
