"""Knowing for certain that a worker process is gone, without waiting for its leases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Liveness(Protocol):
    """A fact, not a guess: only workers that can never write again are reported dead; in doubt none are."""

    def hold(self, worker_id: str) -> None:
        """This process is ``worker_id`` from now until it ends, however it ends."""
        ...

    def dead(self, worker_ids: Sequence[str]) -> list[str]: ...

    def forget(self, worker_ids: Sequence[str]) -> None:
        """Nobody will ask about these dead workers again."""
        ...

    def release(self, worker_id: str) -> None: ...
