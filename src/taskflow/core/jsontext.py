"""JSON as every store, queue and client can keep it: I-JSON (RFC 7493), and refusals that say where and why.

Refused: NaN and infinities, NUL and lone surrogates in strings (PostgreSQL keeps neither), integers beyond signed
64 bit, nesting beyond `MAX_DEPTH`, non-string keys, and any Python object that is not one of JSON's six kinds.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from taskflow.core.errors import InvalidJSONError

MAX_DEPTH = 64
_MAX_PATH_CHARS = 120
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
# What a text must contain before anything but its syntax can be wrong. Most texts do not, and are then done.
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\d{19}")


def loads(text: bytes | str) -> Any:
    """Parse untrusted JSON. Raises InvalidJSONError that names the place."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise InvalidJSONError(f"not valid JSON: {exc}") from exc
    if _SUSPICIOUS.search(raw) is not None:
        check(value)  # the depth, before the standard library recurses into it
        # orjson turns integers beyond 64 bit into floats; the standard library keeps them exact.
        check(json.loads(raw))
    elif raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        check(value)
    return value


def dumps(value: Any) -> str:
    """Compact JSON of an already checked value."""
    return orjson.dumps(value).decode()


def check(value: Any) -> None:
    """Raise InvalidJSONError unless ``value`` is plain JSON data within the limits above."""
    _check(value, "", 0)


def checked_dumps(value: Any) -> str:
    """`check` and `dumps` in one: for values made by user code (arguments, results, metadata)."""
    check(value)
    return dumps(value)


def _check(value: Any, path: str, depth: int) -> None:
    kind = type(value)
    if value is None or kind is bool:
        return
    if kind is str:
        _check_text(value, path)
    elif kind is int:
        if not _INT64_MIN <= value <= _INT64_MAX:
            _refuse(path, "an integer beyond 64 bit; send it as a string")
    elif kind is float:
        if not math.isfinite(value):
            _refuse(path, "NaN or infinity, which JSON does not have")
    elif kind is dict:
        _check_depth(path, depth)
        for key, item in value.items():
            if type(key) is not str:
                _refuse(path, f"a key that is {type(key).__name__}, not a string")
            _check_text(key, path)
            _check(item, f"{path}.{key}" if path else key, depth + 1)
    elif kind is list or kind is tuple:
        _check_depth(path, depth)
        for index, item in enumerate(value):
            _check(item, f"{path}[{index}]", depth + 1)
    else:
        _refuse(path, f"a {kind.__module__}.{kind.__qualname__}, which is not JSON")


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_DEPTH:
        _refuse(path, f"something nested deeper than {MAX_DEPTH} levels")


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        _refuse(path, "a NUL character in a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse(path, "a lone surrogate in a string")


def _refuse(path: str, what: str) -> NoReturn:
    if len(path) > _MAX_PATH_CHARS:
        path = path[:_MAX_PATH_CHARS] + "…"  # keys can be as long as the whole text
    where = path or "the value"
    raise InvalidJSONError(
        f"{where} is or contains {what}", fields=[{"field": path, "message": what}]
    )
