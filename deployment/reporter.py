"""Who hears of what a deployment does while it does it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from deployment.changes import Change
from deployment.stacks import Watcher


class Reporter(Protocol):
    """Text is plain, one sentence or less. `deployment.cli.terminal` shows it; tests read it."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def plan(self, changes: Sequence[Change]) -> None: ...

    def watching(self, what: str, *, resources: int | None) -> AbstractContextManager[Watcher]:
        """Show a stack's events until it ends; ``resources``: how many will be told of, if known."""

    def confirm(self, question: str) -> bool:
        """Raises UsageError where nobody can be asked and nobody said --yes."""
