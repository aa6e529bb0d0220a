"""Deleting what has been final for long."""

from __future__ import annotations

from typing import Protocol


class RetentionStore(Protocol):
    def purge(self, *, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """Delete final tasks with all that belongs to them, but for those that somebody else's transaction holds at
        that moment; returns how many and the payload keys to delete."""
        ...
