"""What the doctor and the backup ask of the metadata store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from taskflow.ports.metadata import TaskKey
from taskflow.ports.queue import Message


class PayloadUse(NamedTuple):
    """``keys`` a task's rows refer to. ``final``: nothing that runs now can still add to them."""

    final: bool
    keys: frozenset[str]


class InspectionStore(Protocol):
    """Finds what should not be. Every method may be called while others work; raises StoreUnavailableError."""

    def schema_revision(self) -> str:
        """Which schema the stored rows have. Raises StoreVersionError when it is not this program's."""
        ...

    def damage(self) -> list[str]:
        """What the database itself says is broken (SQLite's integrity_check); at most 20 lines, none when sound."""
        ...

    def task_count(self) -> int: ...

    def unfinished_by_task(self) -> dict[str, int]:
        """How many tasks that are not final there are of each handler's name."""
        ...

    def newest_event_at(self) -> int | None:
        """Moment of the latest entry in any history; None: there is none."""
        ...

    def unannounced(self, *, seconds: float, limit: int) -> list[Message]:
        """Tasks that have been due for ``seconds`` and have no outbox row. With a queue that is rebuilt from the
        store that is how they wait; while workers are idle it is how they are forgotten."""
        ...

    def wrongly_blocked(self, *, limit: int) -> list[TaskKey]:
        """Blocked tasks that wait for nothing, for a task that ended badly, or count what they wait for wrongly."""
        ...

    def unblock(self, keys: Sequence[TaskKey]) -> int:
        """Look again at these in one transaction, and count, release or fail those that still need it; how many."""
        ...

    def payload_keys(self, *, batch: int) -> Iterator[list[str]]:
        """Every payload key that a row refers to, in lists of up to ``batch``. No transaction stays open between two of
        them: reading what they name may take as long as it needs."""
        ...

    def payload_uses(self, keys: Sequence[TaskKey]) -> dict[TaskKey, PayloadUse]:
        """Unknown tasks are left out."""
        ...
