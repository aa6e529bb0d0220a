"""Calls about dead letters: failed tasks that wait for a person."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from taskflow.calls.views import TaskPage
from taskflow.core.errors import InvalidRequestError
from taskflow.ports.metadata import FailureGroup

# An alias, because inside a class with a method `list` the name no longer means the type.
Groups = list[FailureGroup]


class Selection(NamedTuple):
    """Which dead letters: these ids, or (``task_ids`` None) all that match; None: any."""

    task_ids: tuple[str, ...] | None
    task: str | None
    fingerprint: str | None


class DeadLetterCalls(ABC):
    """Thread safe. `redrive` and `discard` take at most 10,000 tasks a call, chosen by ``task_ids``, or by ``task`` and
    ``fingerprint``, or by ``all=True``: an empty list of ids means none, never all."""

    @abstractmethod
    def list(
        self,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """Newest first."""

    @abstractmethod
    def groups(self, *, limit: int = 100) -> Groups:
        """Failures that differ only in numbers, ids and quoted values, the largest group first."""

    def redrive(
        self,
        task_ids: Sequence[str] | None = None,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        all: bool = False,
        rate_per_second: float | None = None,
    ) -> int:
        """Run them anew with all their retries, spread over time when a rate is given. Returns how many."""
        selection = _selection(task_ids, task, fingerprint, all)
        return 0 if selection.task_ids == () else self._redrive(selection, rate_per_second)

    def discard(
        self,
        task_ids: Sequence[str] | None = None,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        all: bool = False,
    ) -> int:
        """Put them away: they leave the list and stay failed. Returns how many."""
        selection = _selection(task_ids, task, fingerprint, all)
        return 0 if selection.task_ids == () else self._discard(selection)

    @abstractmethod
    def _redrive(self, selection: Selection, rate_per_second: float | None) -> int: ...

    @abstractmethod
    def _discard(self, selection: Selection) -> int: ...


def _selection(
    task_ids: Sequence[str] | None, task: str | None, fingerprint: str | None, everything: bool
) -> Selection:
    if isinstance(task_ids, str):
        task_ids = (task_ids,)  # one id, not its letters
    by_filter = task is not None or fingerprint is not None or everything
    if (task_ids is not None) == by_filter:
        raise InvalidRequestError(
            "choose dead letters either by task_ids, or by task and fingerprint, or all of them"
        )
    return Selection(None if task_ids is None else tuple(task_ids), task, fingerprint)
