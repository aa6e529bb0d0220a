"""The clock of the machine and the one of tests."""

from __future__ import annotations

import time

import pytest

from taskflow.adapters.clock.system import SystemClock
from taskflow.ports.clock import Clock
from taskflow.testing.clock import FakeClock


def test_the_system_clock_tells_unix_microseconds() -> None:
    clock: Clock = SystemClock()
    before, now, after = time.time(), clock.now_us(), time.time()
    assert before * 1e6 - 1 <= now <= after * 1e6 + 1


def test_the_system_clocks_monotonic_seconds_do_not_go_back() -> None:
    clock = SystemClock()
    moments = [clock.monotonic() for _ in range(1_000)]
    assert moments == sorted(moments)


def test_fake_time_stands_still_until_it_is_advanced() -> None:
    clock: Clock = FakeClock(now_us=5_000_000, monotonic=7.0)
    assert (clock.now_us(), clock.monotonic()) == (5_000_000, 7.0)
    assert isinstance(clock, FakeClock)
    clock.advance(1.5)
    assert (clock.now_us(), clock.monotonic()) == (6_500_000, 8.5)


def test_a_jump_moves_the_wall_clock_only_and_may_go_back() -> None:
    clock = FakeClock(now_us=5_000_000, monotonic=7.0)
    clock.jump(-2)
    assert (clock.now_us(), clock.monotonic()) == (3_000_000, 7.0)
    clock.set(now_us=9_000_000)
    assert (clock.now_us(), clock.monotonic()) == (9_000_000, 7.0)


def test_time_does_not_go_back() -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


def test_listeners_hear_of_every_move_after_it() -> None:
    clock = FakeClock(monotonic=0.0)
    heard: list[float] = []
    clock.on_advance(lambda: heard.append(clock.monotonic()))
    clock.advance(1)
    clock.jump(5)
    clock.advance(2)
    assert heard == [1.0, 1.0, 3.0]
