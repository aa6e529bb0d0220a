"""Who is working."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

SILENT_SECONDS = (
    60.0  # six reports missed: who was killed stops counting, who has a hiccup does not
)


class WorkerRecord(NamedTuple):
    worker_id: str
    hostname: str
    pid: int
    started_at: int
    seen_at: int
    status: str  # as reported (running, draining, stopped), or silent: see `seen_from`
    details: Mapping[str, Any]

    def seen_from(self, now_us: int) -> WorkerRecord:
        """With status silent if it claims to be there and has not said so for `SILENT_SECONDS` of the store's time."""
        is_silent = self.status != "stopped" and self.seen_at < now_us - SILENT_SECONDS * 1_000_000
        return self._replace(status="silent") if is_silent else self


class WorkerStore(Protocol):
    """Who is working. For people and for recovery, never for deciding ownership."""

    def report(self, record: WorkerRecord) -> None:
        """Insert or update; ``seen_at`` and ``started_at`` are set by the store."""

    def list(self) -> list[WorkerRecord]: ...

    def forget(self, worker_ids: Sequence[str]) -> None: ...
