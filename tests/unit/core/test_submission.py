"""What callers ask for."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.errors import InvalidRequestError
from taskflow.core.submission import (
    MAX_DELAY_SECONDS,
    MAX_DEPENDENCIES,
    MAX_TAGS,
    Submission,
    SubmitOptions,
    request_hash,
)
from taskflow.core.task import TaskPriority

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def test_people_may_write_options_as_they_think_of_them() -> None:
    options = SubmitOptions.of(
        priority="high",
        delay=timedelta(minutes=5),
        expires_in=timedelta(hours=1),
        timeout=timedelta(seconds=2),
        tags=["a", "b"],
        depends_on=[SimpleNamespace(id="t1"), "t2"],
        max_retries=0,
    )
    assert options == SubmitOptions(
        priority=TaskPriority.HIGH,
        delay=300.0,
        expires_in=3_600.0,
        timeout=2.0,
        tags=("a", "b"),
        depends_on=("t1", "t2"),
        max_retries=0,
    )


def test_a_single_tag_or_dependency_needs_no_list() -> None:
    assert SubmitOptions.of(tags="ab", depends_on="t1").tags == ("ab",)
    assert SubmitOptions.of(tags="ab", depends_on="t1").depends_on == ("t1",)
    assert SubmitOptions.of(tags=None, depends_on=None) == SubmitOptions()


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("delay", {"delay": -1}),
        ("delay", {"delay": math.nan}),
        ("delay", {"delay": MAX_DELAY_SECONDS + 1}),
        ("delay", {"delay": True}),
        ("delay", {"delay": "5"}),
        ("delay", {"delay": 5, "run_at": LATER}),
        ("run_at", {"run_at": datetime(2030, 1, 1)}),  # noqa: DTZ001
        ("expires_at", {"expires_at": datetime(2030, 1, 1)}),  # noqa: DTZ001
        ("run_at", {"run_at": "2030-01-01T00:00:00Z"}),
        ("run_at", {"run_at": date(2030, 1, 1)}),
        ("expires_at", {"expires_at": 1_900_000_000}),
        ("expires_in", {"expires_in": 5, "expires_at": LATER}),
        ("expires_in", {"expires_in": timedelta(-1)}),
        ("timeout", {"timeout": 0}),
        ("timeout", {"timeout": math.inf}),
        ("max_retries", {"max_retries": -1}),
        ("max_retries", {"max_retries": 1_001}),
        ("max_retries", {"max_retries": 2.0}),
        ("name", {"name": ""}),
        ("name", {"name": "a\nb"}),
        ("name", {"name": "x" * 201}),
        ("name", {"name": "\ud800"}),
        ("name", {"name": "\x9b31m"}),
        ("idempotency_key", {"idempotency_key": "k" * 256}),
        ("idempotency_key", {"idempotency_key": "a\x00"}),
        ("tags", {"tags": ["x"] * (MAX_TAGS + 1)}),
        ("tags", {"tags": ["x" * 65]}),
        ("tags", {"tags": ["ok", ""]}),
        ("tags", {"tags": [5]}),
        ("tags", {"tags": 5}),
        ("depends_on", {"depends_on": ["x"] * (MAX_DEPENDENCIES + 1)}),
        ("depends_on", {"depends_on": [5]}),
        ("depends_on", {"depends_on": [""]}),
        ("depends_on", {"depends_on": 5}),
        ("traceparent", {"traceparent": 5}),
        ("priority", {"priority": 9}),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_option_that_cannot_be_is_refused_by_name(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        SubmitOptions.of(**options)
    assert raised.value.fields[0]["field"] == field


def test_limits_are_told_in_plain_numbers() -> None:
    with pytest.raises(InvalidRequestError, match=r"from 0 to 316224000$"):
        SubmitOptions.of(delay=-1)


@pytest.mark.parametrize("text", ["👩‍💻 deploy", "می‌خواهم", "a b", "🏴‍☠️", "Ünal"])
def test_names_tags_and_keys_may_be_anything_but_control_characters(text: str) -> None:
    options = SubmitOptions.of(name=text, tags=[text], idempotency_key=text)
    assert (options.name, options.tags, options.idempotency_key) == (text, (text,), text)


def test_an_option_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequestError, match="unknown option 'retries'; there are priority,"):
        SubmitOptions.of(retries=3)


@given(delay=st.floats(0, MAX_DELAY_SECONDS), retries=st.integers(0, 1_000))
def test_everything_within_the_limits_is_accepted(delay: float, retries: int) -> None:
    assert SubmitOptions.of(delay=delay, max_retries=retries).delay == delay


def test_the_hash_of_a_request_is_the_same_for_the_same_request_only() -> None:
    def hashed(task: str = "t", arguments: str = "[[],{}]", **options: Any) -> str:
        return request_hash(Submission(task, (), {}, SubmitOptions.of(**options)), arguments)

    same = {hashed(delay=5, tags=["a"], metadata={"x": 1}) for _ in range(3)}
    others = {hashed(), hashed("u"), hashed(arguments="[[1],{}]"), hashed(delay=5), hashed(delay=6)}
    assert (len(same), len(others)) == (1, 5)
    assert not same & others
