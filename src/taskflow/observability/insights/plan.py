"""What a query does, command by command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from taskflow.observability.insights.expressions import Expression


@dataclass(frozen=True)
class Column:
    name: str
    value: Expression


@dataclass(frozen=True)
class AggregateColumn:
    """``percent`` is for pct alone."""

    name: str
    function: str
    of: Expression
    percent: float = 0.0


@dataclass(frozen=True)
class Fields:
    columns: Sequence[Column]


@dataclass(frozen=True)
class Filter:
    condition: Expression


@dataclass(frozen=True)
class Stats:
    aggregates: Sequence[AggregateColumn]
    groups: Sequence[Column]


@dataclass(frozen=True)
class Sort:
    """``keys``: value, and whether the largest comes first."""

    keys: Sequence[tuple[Expression, bool]]


@dataclass(frozen=True)
class Limit:
    rows: int


@dataclass(frozen=True)
class Display:
    names: Sequence[str]


Command = Fields | Filter | Stats | Sort | Limit | Display


@dataclass
class Plan:
    """``fields_read``: what it needs of the events, without names that it made itself."""

    commands: list[Command] = field(default_factory=list)
    fields_read: set[str] = field(default_factory=set)
