"""Expressions: what a query computes from one event."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taskflow.observability.insights.values import (
    bin_of,
    compare,
    number_of,
    seconds_of,
    text_of,
)

Event = Mapping[str, Any]
Expression = Callable[[Event], Any]


def field(name: str) -> Expression:
    return lambda event: event.get(name)


def constant(value: Any) -> Expression:
    return lambda _: value


def comparison(sign: str, left: Expression, right: Expression) -> Expression:
    return lambda event: compare(sign, left(event), right(event))


def is_in(left: Expression, choices: Sequence[Expression]) -> Expression:
    return lambda event: any(compare("=", left(event), choice(event)) for choice in choices)


def like(left: Expression, *, text: str | None = None, regex: str | None = None) -> Expression:
    """Part of the text; upper and lower case differ, unless the expression begins with ``(?i)``."""
    pattern = re.compile(regex) if regex is not None else re.compile(re.escape(text or ""))

    def matches(event: Event) -> bool:
        value = left(event)
        return value is not None and pattern.search(text_of(value)) is not None

    return matches


def negation(inner: Expression) -> Expression:
    return lambda event: not inner(event)


def conjunction(left: Expression, right: Expression) -> Expression:
    return lambda event: bool(left(event)) and bool(right(event))


def disjunction(left: Expression, right: Expression) -> Expression:
    return lambda event: bool(left(event)) or bool(right(event))


def arithmetic(sign: str, left: Expression, right: Expression) -> Expression:
    """Nothing where a side is no number, and where it divides by zero."""

    def value(event: Event) -> float | None:
        a, b = number_of(left(event)), number_of(right(event))
        if a is None or b is None or (b == 0 and sign in "/%"):
            return None
        return _ARITHMETIC[sign](a, b)

    return value


_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": math.fmod,
}


def _numeric(function: Callable[[float], Any]) -> Callable[..., Any]:
    def call(value: Any) -> Any:
        number = number_of(value)
        return None if number is None else function(number)

    return call


def _textual(function: Callable[[str], str]) -> Callable[..., Any]:
    return lambda value: None if value is None else function(text_of(value))


# name → (number of arguments, what it computes)
FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "ispresent": (1, lambda value: value is not None),
    "isempty": (1, lambda value: value is None or value == ""),
    "strcontains": (
        2,
        lambda text, part: int(text is not None and text_of(part) in text_of(text)),
    ),
    "tolower": (1, _textual(str.lower)),
    "toupper": (1, _textual(str.upper)),
    "abs": (1, _numeric(abs)),
    "floor": (1, _numeric(math.floor)),
    "ceil": (1, _numeric(math.ceil)),
}


def call(name: str, arguments: Sequence[Expression]) -> Expression:
    function = FUNCTIONS[name][1]
    return lambda event: function(*(argument(event) for argument in arguments))


def bin_function(period: str) -> Expression:
    seconds = seconds_of(period)
    return lambda event: bin_of(event.get("@timestamp"), seconds)
