"""How long to wait for transactions of others that hold the rows one wants (PostgreSQL; SQLite has one writer)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from taskflow.adapters.metadata.dependents import DependentsLockedError
from taskflow.adapters.metadata.transaction import Transaction

# Longer than any transaction of our own; a caller's may stay open for as long as it likes.
PATIENCE_SECONDS = 1.0
_PAUSE_SECONDS = 0.05

R = TypeVar("R")


@contextmanager
def lock_timeout(tx: Transaction, seconds: float | None) -> Iterator[None]:
    """For the locks that statements wait for meanwhile: StoreLockedError after ``seconds``. None: however long it
    takes."""
    if seconds is not None:
        tx.before_next(f"SET LOCAL lock_timeout = {int(seconds * 1_000)}")
    yield
    if seconds is not None:
        tx.before_next("SET LOCAL lock_timeout = DEFAULT")


def until_unlocked(write: Callable[[], R]) -> R:
    """What ``write`` returned once nobody holds dependents that it wants. It gives up at once what it has locked itself
    when somebody does: else two that change a graph from different sides would wait for each other. Raises
    DependentsLockedError when it has tried for PATIENCE_SECONDS."""
    for _ in range(round(PATIENCE_SECONDS / _PAUSE_SECONDS)):
        try:
            return write()
        except DependentsLockedError:
            time.sleep(_PAUSE_SECONDS)
    return write()
