"""When the next attempt is due."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.errors import RegistrationError
from taskflow.core.retry import Reject, Retry, RetryPolicy

SECONDS = st.floats(0, 1e6)


@given(
    base=SECONDS,
    factor=st.floats(1, 1e6),
    cap=SECONDS,
    retries=st.integers(0, 100_000),
    seed=st.integers(),
)
def test_the_delay_lies_between_nothing_and_the_capped_backoff(
    base: float, factor: float, cap: float, retries: int, seed: int
) -> None:
    policy = RetryPolicy(base, factor, cap)
    bound = RetryPolicy(base, factor, cap, jitter=False).delay_seconds(retries, random.Random())
    assert 0 <= policy.delay_seconds(retries, random.Random(seed)) <= bound <= cap


def test_without_jitter_the_delay_doubles_up_to_the_cap() -> None:
    policy = RetryPolicy(base_seconds=1, factor=2, cap_seconds=10, jitter=False)
    assert [policy.delay_seconds(n, random.Random()) for n in range(6)] == [1, 2, 4, 8, 10, 10]


def test_jitter_spreads_over_the_whole_range() -> None:
    """Full jitter: uniform from 0, not around the backoff."""
    rng = random.Random(1)
    delays = [RetryPolicy(8, 1, 900).delay_seconds(0, rng) for _ in range(2_000)]
    quarters = [sum(low <= d < low + 2 for d in delays) for low in (0, 2, 4, 6)]
    assert min(quarters) > 400


@given(at_least=SECONDS, retries=st.integers(0, 50), jitter=st.booleans(), seed=st.integers())
def test_a_servers_wish_is_never_undercut_and_hardly_exceeded(
    at_least: float, retries: int, jitter: bool, seed: int
) -> None:
    policy = RetryPolicy(jitter=jitter)
    delay = policy.delay_seconds(retries, random.Random(seed), at_least=at_least)
    assert at_least <= delay <= at_least + 1


@pytest.mark.parametrize(
    "numbers",
    [(-1, 2, 9), (1, 0.5, 9), (1, 2, -9), (math.nan, 2, 9), (1, math.inf, 9), (1, 2, math.inf)],
)
def test_a_policy_that_makes_no_sense_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(RegistrationError, match="RetryPolicy needs"):
        RetryPolicy(*numbers)


@pytest.mark.parametrize("delay", [-1, math.inf, math.nan])
def test_a_retry_delay_is_a_number_of_seconds(delay: float) -> None:
    with pytest.raises(ValueError, match="seconds from 0"):
        Retry(delay=delay)


def test_retry_and_reject_carry_their_reason() -> None:
    assert str(Retry("later", delay=3)) == "later"
    assert str(Reject("never")) == "never"
