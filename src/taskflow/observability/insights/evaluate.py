"""Runs a query over events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from taskflow.observability.insights import aggregates
from taskflow.observability.insights.expressions import Event, Expression
from taskflow.observability.insights.lines import ORDER
from taskflow.observability.insights.parser import MOST_ROWS
from taskflow.observability.insights.plan import (
    Command,
    Display,
    Fields,
    Filter,
    Limit,
    Plan,
    Sort,
    Stats,
)
from taskflow.observability.insights.values import order_key, shown

_PLAIN = ("@timestamp", "@message")


class Answer(NamedTuple):
    """``rows`` have only what is there: a missing field has no key."""

    columns: list[str]
    rows: list[dict[str, Any]]


def evaluate(plan: Plan, events: Iterable[Event]) -> Answer:
    """The newest first, unless the query sorts; never more than 10,000 rows."""
    rows: Iterator[Event] = iter(events)
    commands = list(plan.commands)
    while commands and isinstance(first := commands[0], Filter):
        rows = filter(first.condition, rows)
        commands.pop(0)
    found: Sequence[Event] = sorted(rows, key=lambda event: str(event.get(ORDER, "")), reverse=True)
    for command in commands:
        found = _step(command, found)
    columns = columns_of(plan)
    return Answer(
        columns,
        [
            {name: shown(row[name]) for name in columns if row.get(name) is not None}
            for row in islice(found, MOST_ROWS)
        ],
    )


def columns_of(plan: Plan) -> list[str]:
    """What a row of the answer may have, in order."""
    columns: list[str] = []
    for command in plan.commands:
        match command:
            case Fields(new):
                columns += [column.name for column in new if column.name not in columns]
            case Stats(aggregated, groups):
                columns = [c.name for c in groups] + [c.name for c in aggregated]
            case Display(names):
                return list(names)
    return columns or list(_PLAIN)


def _step(command: Command, rows: Sequence[Event]) -> Sequence[Event]:
    match command:
        case Filter(condition):
            return [row for row in rows if condition(row)]
        case Fields(columns):
            return [{**row, **{c.name: c.value(row) for c in columns}} for row in rows]
        case Stats():
            return _stats(command, rows)
        case Sort(keys):
            ordered = list(rows)
            for value, descending in reversed(keys):
                there = [row for row in ordered if value(row) is not None]
                missing = [row for row in ordered if value(row) is None]
                there.sort(key=_key(value), reverse=descending)
                ordered = there + missing
            return ordered
        case Limit(count):
            return rows[:count]
        case Display():
            return rows


def _key(value: Expression) -> Callable[[Event], tuple[int, float, str]]:
    return lambda row: order_key(value(row))


def _stats(stats: Stats, rows: Sequence[Event]) -> list[Event]:
    groups: dict[tuple[Any, ...], list[aggregates.Aggregate]] = {}
    if not stats.groups:
        groups[()] = _new(stats)  # counts nothing as well
    for row in rows:
        key = tuple(group.value(row) for group in stats.groups)
        if key not in groups:
            groups[key] = _new(stats)
        for aggregate in groups[key]:
            aggregate.add(row)
    names = [column.name for column in stats.aggregates]
    by = [column.name for column in stats.groups]
    return [
        {
            **dict(zip(by, key, strict=True)),
            **{n: a.value() for n, a in zip(names, found, strict=True)},
        }
        for key, found in groups.items()
    ]


def _new(stats: Stats) -> list[aggregates.Aggregate]:
    return [aggregates.new(c.function, c.of, c.percent) for c in stats.aggregates]
