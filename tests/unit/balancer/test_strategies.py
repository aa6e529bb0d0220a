"""Fair shares, whatever comes and goes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from taskflow.balancer.address import Address
from taskflow.balancer.instances import Instance
from taskflow.balancer.strategies import LeastConnections, RoundRobin, Strategy


def farm(count: int) -> list[Instance]:
    return [Instance(Address("h", port), lambda: None) for port in range(1, count + 1)]


@given(count=st.integers(1, 8), rounds=st.integers(1, 20), least=st.booleans())
def test_equal_instances_get_equal_shares(count: int, rounds: int, least: bool) -> None:
    strategy: Strategy = LeastConnections() if least else RoundRobin()
    instances = farm(count)
    picks = Counter(strategy.pick(instances, None).name for _ in range(count * rounds))
    assert set(picks.values()) == {rounds}
    assert len(picks) == count


@given(weights=st.lists(st.integers(1, 10), min_size=1, max_size=6))
def test_weights_are_shares_and_no_share_comes_in_one_burst(weights: list[int]) -> None:
    instances = farm(len(weights))
    by_name = {one.name: weight / 10 for one, weight in zip(instances, weights, strict=True)}
    strategy = RoundRobin()
    total = sum(weights)
    picks = [strategy.pick(instances, lambda one: by_name[one.name]).name for _ in range(total * 3)]
    counts = Counter(picks)
    assert all(abs(counts[name] - weight * 30) <= 1 for name, weight in by_name.items())


@given(data=st.data(), least=st.booleans())
def test_the_pick_is_always_one_of_the_candidates(data: st.DataObject, least: bool) -> None:
    strategy: Strategy = LeastConnections() if least else RoundRobin()
    instances = farm(6)
    for _ in range(30):
        candidates = data.draw(st.lists(st.sampled_from(instances), min_size=1, unique_by=id))
        weight = data.draw(st.sampled_from([None, lambda one: one.address.port / 6]))
        assert strategy.pick(candidates, weight) in candidates


@given(loads=st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_least_connections_picks_a_least(loads: list[int]) -> None:
    instances = farm(len(loads))
    for one, load in zip(instances, loads, strict=True):
        one.active = load
    assert LeastConnections().pick(instances, None).active == min(loads)
