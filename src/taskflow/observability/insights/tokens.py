"""The words of a query."""

from __future__ import annotations

import re
from typing import NamedTuple

from taskflow.core.errors import InvalidRequestError

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>\d+(?:\.\d+)?(?:ms|[smhdw])?\b)
    |(?P<name>`[^`]+`|[@A-Za-z_][\w.@]*)
    |(?P<sign>!=|<=|>=|=~|[=<>()\[\],|+\-*/%])""",
    re.VERBOSE,
)
_REGEX = re.compile(r"/((?:[^/\\\n]|\\.)+)/")


class Token(NamedTuple):
    kind: str  # text, number, name, sign, regex, end
    value: str
    position: int


def tokens_of(query: str) -> list[Token]:
    """Ends with one of kind ``end``. Raises InvalidRequestError for what belongs to no word."""
    found: list[Token] = []
    position = 0
    while position < len(query):
        if found and found[-1].value.lower() in ("like", "=~"):
            position += len(query[position:]) - len(query[position:].lstrip())
            if match := _REGEX.match(query, position):
                found.append(Token("regex", match[1].replace("\\/", "/"), position))
                position = match.end()
                continue
        match = _TOKEN.match(query, position)
        if match is None or match.lastgroup is None:
            raise InvalidRequestError(f"query: {query[position : position + 20]!r} cannot be read")
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup, _value(match.lastgroup, match[0]), position))
        position = match.end()
    return [*found, Token("end", "", position)]


def _value(kind: str, text: str) -> str:
    if kind == "text":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text.strip("`") if kind == "name" else text
