"""What the operating system says about a disk, in TaskFlow's errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskflow.core.errors import StoreFullError, StoreReadOnlyError, StoreUnavailableError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Raises StoreFullError, StoreReadOnlyError or StoreUnavailableError for an OSError."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise StoreFullError(f"payloads in {root}: the disk is full ({exc})") from exc
        if exc.errno in _READ_ONLY:
            raise StoreReadOnlyError(f"payloads in {root} cannot be written ({exc})") from exc
        raise StoreUnavailableError(f"payloads in {root} cannot be written ({exc})") from exc


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Raises StoreUnavailableError for an OSError."""
    try:
        yield
    except OSError as exc:
        raise StoreUnavailableError(f"payloads in {root} cannot be read ({exc})") from exc
