"""Asking whoever runs this process not to stop it while it works."""

from __future__ import annotations

from typing import Protocol


class ProtectionUnavailableError(Exception):
    """Whoever was asked did not answer, or could not do it. Nothing a task has to suffer from."""


class Protection(Protocol):
    """Thread safe."""

    def switch(self, *, on: bool, minutes: int) -> None:
        """On: for ``minutes`` from now, unless switched again before. Raises ProtectionUnavailableError."""
        ...
