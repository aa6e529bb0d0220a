from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taskflow.core.breaker import Breaker, BreakerState

OPEN_SECONDS = 10.0


def breaker(failures: int = 3) -> Breaker:
    return Breaker(failures=failures, open_seconds=OPEN_SECONDS)


def fail(circuit: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = circuit.admit(now)
        assert ticket is not None
        circuit.failed(ticket, now)


def test_failures_in_a_row_open_it() -> None:
    circuit = breaker()
    fail(circuit, 0.0, 2)
    assert circuit.state(0.0) is BreakerState.CLOSED
    fail(circuit, 0.0)
    assert circuit.state(0.0) is BreakerState.OPEN
    assert circuit.admit(OPEN_SECONDS - 0.1) is None
    assert circuit.half_opens_in(4.0) == 6.0


def test_a_success_between_failures_starts_the_count_again() -> None:
    circuit = breaker()
    fail(circuit, 0.0, 2)
    circuit.succeeded(circuit.admit(0.0) or 0)
    fail(circuit, 0.0, 2)
    assert circuit.state(0.0) is BreakerState.CLOSED


def test_half_open_lets_one_probe_pass_at_a_time() -> None:
    circuit = breaker(1)
    fail(circuit, 0.0)
    assert circuit.state(OPEN_SECONDS) is BreakerState.HALF_OPEN
    assert circuit.half_opens_in(OPEN_SECONDS) is None
    assert circuit.would_admit(OPEN_SECONDS)
    probe = circuit.admit(OPEN_SECONDS)
    assert probe is not None
    assert circuit.admit(OPEN_SECONDS) is None
    assert not circuit.would_admit(OPEN_SECONDS)
    circuit.released(probe)
    assert circuit.admit(OPEN_SECONDS) is not None


def test_the_probe_decides() -> None:
    circuit = breaker(2)
    fail(circuit, 0.0, 2)
    fail(circuit, OPEN_SECONDS)  # one failure is enough now
    assert circuit.state(OPEN_SECONDS) is BreakerState.OPEN
    assert circuit.half_opens_in(OPEN_SECONDS) == OPEN_SECONDS
    probe = circuit.admit(2 * OPEN_SECONDS)
    assert probe is not None
    circuit.succeeded(probe)
    assert circuit.state(2 * OPEN_SECONDS) is BreakerState.CLOSED
    fail(circuit, 2 * OPEN_SECONDS)
    assert circuit.state(2 * OPEN_SECONDS) is BreakerState.CLOSED  # counted anew


def test_what_began_before_it_opened_says_nothing() -> None:
    circuit = breaker(1)
    early, other = circuit.admit(0.0), circuit.admit(0.0)
    assert early is not None
    assert other is not None
    circuit.failed(early, 0.0)
    assert not circuit.is_valid(other)
    circuit.succeeded(other)
    assert circuit.state(1.0) is BreakerState.OPEN
    probe = circuit.admit(OPEN_SECONDS)
    assert probe is not None
    circuit.failed(other, OPEN_SECONDS)
    circuit.released(other)
    assert circuit.admit(OPEN_SECONDS) is None  # the probe is still out
    assert circuit.is_valid(probe)


@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "ok", "fail", "release"]), st.floats(0, 15)),
        max_size=60,
    )
)
def test_it_always_comes_back(steps: list[tuple[str, float]]) -> None:
    """Whatever happens, once everything that was admitted has ended, time alone makes it admit again."""
    circuit, now, tickets = breaker(2), 0.0, []
    for step, seconds in steps:
        now += seconds
        if step == "admit":
            ticket = circuit.admit(now)
            assert (ticket is not None) == (ticket is not None and circuit.is_valid(ticket))
            tickets += [] if ticket is None else [ticket]
        elif tickets:
            ticket = tickets.pop(0)
            match step:
                case "ok":
                    circuit.succeeded(ticket)
                case "fail":
                    circuit.failed(ticket, now)
                case "release":
                    circuit.released(ticket)
    for ticket in tickets:
        circuit.released(ticket)
    assert circuit.would_admit(now + OPEN_SECONDS)
