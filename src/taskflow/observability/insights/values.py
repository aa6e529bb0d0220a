"""Values of log lines: how they compare, count and are written."""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

_DECIMALS = 4
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


def number_of(value: Any) -> float | None:
    """Text that is a number counts as one, as it does there."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def compare(sign: str, left: Any, right: Any) -> bool:
    """As numbers if both are, else as text; false when a side is missing."""
    if left is None or right is None:
        return False
    a, b = number_of(left), number_of(right)
    if a is None or b is None:
        return _OPERATORS[sign](text_of(left), text_of(right))
    return _OPERATORS[sign](a, b)


def order_key(value: Any) -> tuple[int, float, str]:
    """Numbers before text; what is missing is for the caller to put last."""
    number = number_of(value)
    return (0, number, "") if number is not None else (1, 0.0, text_of(value))


def shown(value: Any) -> Any:
    """Numbers with four decimals at most, whole ones without; everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    rounded = round(float(value), _DECIMALS)
    return int(rounded) if rounded.is_integer() else rounded


def seconds_of(period: str) -> float:
    """Of ``30s``, ``5m``, ``1h``; ValueError for anything else."""
    for unit in sorted(_UNIT_SECONDS, key=len, reverse=True):
        if period.endswith(unit):
            return float(period.removesuffix(unit)) * _UNIT_SECONDS[unit]
    raise ValueError(period)


def bin_of(timestamp: Any, period_seconds: float) -> str | None:
    """The beginning of the period that ``YYYY-MM-DD HH:MM:SS.mmm`` is in."""
    if not isinstance(timestamp, str):
        return None
    moment = datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
    into = moment.timestamp() % period_seconds
    begin = moment - timedelta(seconds=into)
    return begin.strftime("%Y-%m-%d %H:%M:%S.000")
