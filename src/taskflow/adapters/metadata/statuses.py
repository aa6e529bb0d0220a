"""Task statuses and priorities in SQL."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from taskflow.core.task import TaskPriority, TaskStatus


def one_of(column: sa.ColumnElement[str], statuses: Iterable[TaskStatus]) -> sa.ColumnElement[bool]:
    """``column IN ('…')`` with the statuses in the text, so that partial indexes can be recognised."""
    return column.in_([sa.literal_column(f"'{status.value}'") for status in sorted(statuses)])


def of_any_priority(column: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Always true; by it an index on status, priority and time gives a range of the time in each priority."""
    return column.in_([sa.literal_column(str(int(priority))) for priority in TaskPriority])
