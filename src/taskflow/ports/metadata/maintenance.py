"""The store as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class MaintenanceStore(Protocol):
    """Whole-store operations: migration, backup, checks."""

    def ping(self) -> None:
        """Raises StoreUnavailableError when the store cannot be read *and* written."""
        ...

    def export(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every row as (table, columns), from one consistent snapshot, parents before children."""
        ...

    def import_rows(self, rows: Iterator[tuple[str, Mapping[str, Any]]]) -> int:
        """Replace the whole content in one transaction; returns the number of rows. Raises BackupInvalidError.

        One at a time; ``rows`` are asked for once no `without_imports` is left inside.
        """
        ...

    def without_imports(self) -> AbstractContextManager[None]:
        """No import is under way inside, in any process. Raises StoreUnavailableError while one is."""
        ...
