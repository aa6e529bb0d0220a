"""Task statuses in SQL."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from taskflow.core.task import TaskStatus


def one_of(column: sa.ColumnElement[str], statuses: Iterable[TaskStatus]) -> sa.ColumnElement[bool]:
    """``column IN ('…')`` with the statuses in the text, so that partial indexes can be recognised."""
    return column.in_([sa.literal_column(f"'{status.value}'") for status in sorted(statuses)])
