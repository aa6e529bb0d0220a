"""JSON that every store, queue and client can keep."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.errors import InvalidJSONError
from taskflow.core.jsontext import MAX_DEPTH, check, checked_dumps, dumps, loads

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_plain_data_survives_the_way_there_and_back(value: Any) -> None:
    text = checked_dumps(value)
    assert loads(text) == value
    assert loads(text.encode()) == value
    assert json.loads(text) == value


@given(JSON)
def test_what_others_write_is_read_as_they_mean_it(value: Any) -> None:
    assert loads(json.dumps(value, indent=1)) == value
    assert loads(json.dumps(value, ensure_ascii=False)) == value


@given(st.binary(max_size=60) | st.text(st.characters(), max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes | str) -> None:
    try:
        value = loads(raw)
    except InvalidJSONError:
        return
    check(value)


def nested(depth: int, inside: str = "1") -> str:
    return "[" * depth + inside + "]" * depth


REFUSED = {
    "nothing": "",
    "half": '{"a": ',
    "NaN": "NaN",
    "infinity": "[Infinity]",
    "a number beyond double": "1e999",
    "an endless number": "1" * 5_000,
    "NUL": '"a\\u0000b"',
    "NUL in a key": '{"\\u0000": 1}',
    "lone surrogate": '"\\ud800"',
    "reversed surrogates": '"\\udc00\\ud800"',
    "2**63": str(2**63),
    "2**64": f"[{2**64}]",
    "-2**63-1": f'{{"a": {-(2**63) - 1}}}',
    "too deep": nested(MAX_DEPTH + 1),
    "much too deep": nested(1_000),
    "much too deep, with a long number inside": nested(1_010, "1" * 19),
    "beyond all depth": nested(100_000),
    "too deep objects": '{"a":' * 65 + "1" + "}" * 65,
    "invalid UTF-8": b'"\xff"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf1",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_not_every_store_can_keep_is_refused(raw: bytes | str) -> None:
    with pytest.raises(InvalidJSONError) as raised:
        loads(raw)
    assert len(raised.value.detail) < 400


ACCEPTED = {
    "2**63-1": (str(2**63 - 1), 2**63 - 1),
    "-2**63": (str(-(2**63)), -(2**63)),
    "19 digits in a string": ('"1234567890123456789"', "1234567890123456789"),
    "19 digits after the point": ("0.1234567890123456789", 0.1234567890123456789),
    "a pair of surrogates": ('"\\ud83d\\ude00"', "😀"),
    "an escaped backslash before u0000": ('"\\\\u0000"', "\\u0000"),
    "many brackets in a string": (json.dumps("[" * 500), "[" * 500),
    "wide, not deep": (json.dumps([[]] * 500), [[]] * 500),
}


@pytest.mark.parametrize(("raw", "value"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_only_looks_suspicious_is_accepted(raw: str, value: Any) -> None:
    assert loads(raw) == value


def test_the_deepest_nesting_is_64_levels() -> None:
    assert dumps(loads(nested(MAX_DEPTH))) == nested(MAX_DEPTH)


class Colour(StrEnum):
    RED = "red"


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        (math.nan, "", "the value is or contains NaN"),
        ({"a": [1, {"b": math.inf}]}, "a[1].b", "infinity"),
        ({"a": {1: 2}}, "a", "a key that is int"),
        ([{1, 2}], "[0]", "builtins.set"),
        ({"a": b"x"}, "a", "builtins.bytes"),
        ([2**63], "[0]", "64 bit"),
        (["a\x00"], "[0]", "NUL"),
        ({"\ud800": 1}, "", "surrogate"),
        (["\ud800"], "[0]", "surrogate"),
        (Colour.RED, "", "Colour"),
        (object(), "", "builtins.object"),
        (LOOP, "[0]" * 40 + "…", "deeper than 64"),
        ({"k" * 10_000: math.nan}, "k" * 120 + "…", "NaN"),
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_refusal_names_the_place(value: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidJSONError, match=words) as raised:
        checked_dumps(value)
    assert raised.value.fields[0]["field"] == field


def test_tuples_are_lists() -> None:
    assert checked_dumps(((1, 2), "a")) == '[[1,2],"a"]'
