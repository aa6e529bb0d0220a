from __future__ import annotations

import math

from taskflow.worker.claim_ahead import HORIZON_SECONDS, MAX_AHEAD, REFILL_SECONDS, ClaimAhead


def learned(seconds: float, *, num_workers: int = 4) -> ClaimAhead:
    guess = ClaimAhead(num_workers)
    for _ in range(50):
        guess.observe("job", seconds)
    return guess


def test_nothing_is_claimed_ahead_before_anything_is_known() -> None:
    guess = ClaimAhead(4)
    assert guess.limit(4) == 0
    assert guess.expected_seconds("job") == math.inf
    assert guess.is_long("job")


def test_as_many_as_will_start_within_the_horizon() -> None:
    assert learned(0.001).limit(4) == 4 * HORIZON_SECONDS / 0.001
    assert learned(0.001).limit(1) == HORIZON_SECONDS / 0.001
    assert learned(HORIZON_SECONDS * 5).limit(4) == 0


def test_more_is_claimed_when_what_starts_within_a_moment_has_started() -> None:
    guess = learned(0.0005)
    assert guess.refill_below(100, 4) == 100 - 4 * REFILL_SECONDS / 0.0005
    assert guess.refill_below(2, 4) == 0
    slow = learned(0.015)
    assert slow.refill_below(slow.limit(1), 1) == slow.limit(1) - 1
    assert slow.refill_below(0, 4) == 0


def test_the_shortest_tasks_have_a_bound() -> None:
    assert learned(0.0).limit(4) == MAX_AHEAD


def test_long_tasks_that_keep_every_slot_leave_nothing_to_claim_ahead_for() -> None:
    assert learned(0.001).limit(0) == 0


def test_the_mean_follows_what_happens_now() -> None:
    guess = learned(0.0001)
    for _ in range(30):
        guess.observe("job", 1.0)
    assert guess.limit(4) == 0
    assert guess.is_long("job")
    for _ in range(150):
        guess.observe("job", 0.0001)
    assert guess.limit(4) > 100
    assert not guess.is_long("job")


def test_tasks_are_known_by_name() -> None:
    guess = learned(0.001)
    guess.observe("slow", 3.0)
    assert guess.is_long("slow")
    assert not guess.is_long("job")
    assert guess.is_long("new")


def test_one_slow_first_run_does_not_make_a_task_a_long_one() -> None:
    guess = learned(0.001)
    guess.observe("new", 1.8 * HORIZON_SECONDS)
    assert guess.is_long("new")
    guess.observe("new", 0.0001)
    assert not guess.is_long("new")


def test_after_a_wrong_guess_nothing_is_claimed_ahead_until_a_claim_went_well() -> None:
    guess = learned(0.001)
    guess.be_cautious()
    guess.observe("job", 0.001)
    assert guess.limit(4) == 0
    guess.be_confident()
    assert guess.limit(4) > 0
