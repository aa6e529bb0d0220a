"""Which values of `traceparent` count: https://www.w3.org/TR/trace-context/#versioning-of-traceparent."""

from __future__ import annotations

import pytest

from taskflow.core.errors import InvalidRequestError
from taskflow.core.submission import SubmitOptions
from taskflow.core.trace import parse, trace_id

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (GOOD, GOOD),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"00-{TRACE}-{PARENT}-ff", f"00-{TRACE}-{PARENT}-ff"),
        (f"01-{TRACE}-{PARENT}-03", GOOD),  # of a later version: what version 00 has of it
        (f"cc-{TRACE}-{PARENT}-00-what-the-future-holds", f"00-{TRACE}-{PARENT}-00"),
    ],
)
def test_valid_ones_are_kept_in_version_00(given: str, kept: str) -> None:
    assert parse(given) == kept
    assert trace_id(kept) == TRACE


@pytest.mark.parametrize(
    "given",
    [
        "",
        "garbage",
        GOOD.upper(),
        GOOD + "-01",
        GOOD + "0",
        GOOD + " ",
        GOOD + "\n",
        GOOD[:-1],
        f"ff-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0g",
        f"00_{TRACE}_{PARENT}_01",
        f"cc-{TRACE}-{PARENT}-00what",
    ],
)
def test_any_other_is_none(given: str) -> None:
    assert parse(given) is None


def test_a_program_that_gives_a_wrong_one_is_told() -> None:
    assert SubmitOptions.of(traceparent=GOOD).traceparent == GOOD
    for wrong in ("garbage", f"01-{TRACE}-{PARENT}-03"):
        with pytest.raises(InvalidRequestError, match="traceparent"):
            SubmitOptions.of(traceparent=wrong)
