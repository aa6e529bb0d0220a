"""Functions of ``stats``: each sees the events of one group, one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from taskflow.observability.insights.expressions import Event, Expression
from taskflow.observability.insights.lines import ORDER
from taskflow.observability.insights.values import number_of, order_key, text_of


class Aggregate(Protocol):
    def add(self, event: Event) -> None: ...

    def value(self) -> Any: ...


class _Values:
    """All of a group that are there; ``numeric`` leaves out what is no number."""

    def __init__(
        self, of: Expression, result: Callable[[list[Any]], Any], *, numeric: bool = True
    ) -> None:
        self._of = of
        self._result = result
        self._numeric = numeric
        self._values: list[Any] = []

    def add(self, event: Event) -> None:
        value = self._of(event)
        if self._numeric:
            value = number_of(value)
        if value is not None:
            self._values.append(value)

    def value(self) -> Any:
        return self._result(self._values)


class _AtAnEnd:
    """The value of the earliest or latest event that has one."""

    def __init__(self, of: Expression, *, latest: bool) -> None:
        self._of = of
        self._latest = latest
        self._found: tuple[str, Any] | None = None

    def add(self, event: Event) -> None:
        value = self._of(event)
        if value is None:
            return
        at = str(event.get(ORDER, ""))
        if self._found is None or (at >= self._found[0] if self._latest else at < self._found[0]):
            self._found = (at, value)

    def value(self) -> Any:
        return None if self._found is None else self._found[1]


def _percentile(percent: float) -> Callable[[list[float]], float | None]:
    def nearest_rank(values: list[float]) -> float | None:
        if not values:
            return None
        return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]

    return nearest_rank


def _extreme(choose: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    return lambda values: choose(values, key=order_key) if values else None


def new(name: str, of: Expression, percent: float) -> Aggregate:
    """One for a group. ``percent`` is for pct alone."""
    match name:
        case "pct":
            return _Values(of, _percentile(percent))
        case "earliest" | "latest":
            return _AtAnEnd(of, latest=name == "latest")
        case "count" | "count_distinct" | "min" | "max":
            return _Values(of, _RESULTS[name], numeric=False)
        case _:
            return _Values(of, _RESULTS[name])


_RESULTS: Mapping[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "count_distinct": lambda values: len({text_of(value) for value in values}),
    "sum": sum,
    "avg": lambda values: sum(values) / len(values) if values else None,
    "min": _extreme(min),
    "max": _extreme(max),
}
AGGREGATES = frozenset({*_RESULTS, "pct", "earliest", "latest"})
