"""Which instances get requests: checks, ejection, recovery, slow start, on a clock that the test moves."""

from __future__ import annotations

from collections import Counter

import pytest

from taskflow.balancer.instances import Instance, Instances
from taskflow.balancer.options import HealthCheck
from taskflow.balancer.strategies import LeastConnections, RoundRobin
from taskflow.core.errors import ConfigurationError
from taskflow.testing.clock import FakeClock

RULES = HealthCheck(rise=2, fall=3, max_failures=3, slow_start=10)


class Farm:
    def __init__(self, count: int = 3, rules: HealthCheck = RULES) -> None:
        self.clock = FakeClock()
        self.instances = Instances(rules, self.clock.monotonic)
        self.all = [self.instances.add(f"http://10.0.0.{n}:80") for n in range(1, count + 1)]

    def take_down(self, instance: Instance) -> None:
        while instance.available:
            self.instances.check_failed(instance, "sick")

    def bring_back(self, instance: Instance) -> None:
        while not instance.available:
            self.instances.check_succeeded(instance)


@pytest.fixture
def farm() -> Farm:
    return Farm()


def test_before_the_first_check_all_get_requests_and_a_first_failure_takes_one_out(
    farm: Farm,
) -> None:
    assert farm.instances.available == farm.all
    farm.instances.check_failed(farm.all[0], "refused")
    assert farm.instances.available == farm.all[1:]
    assert (farm.all[0].state, farm.all[0].reason) == ("down", "refused")


def test_only_failures_in_a_row_take_out_and_only_successes_in_a_row_bring_back(farm: Farm) -> None:
    one = farm.all[0]
    farm.instances.check_succeeded(one)
    for _ in range(5):
        farm.instances.check_failed(one, "x")
        farm.instances.check_failed(one, "x")
        farm.instances.check_succeeded(one)
    assert one.state == "up"
    for _ in range(3):
        farm.instances.check_failed(one, "x")
    assert one.state == "down"
    for _ in range(5):
        farm.instances.check_succeeded(one)
        farm.instances.check_failed(one, "x")
    assert one.state == "down"
    farm.instances.check_succeeded(one)
    farm.instances.check_succeeded(one)
    assert one.state == "up"


def test_connection_errors_in_a_row_eject_until_checks_succeed(farm: Farm) -> None:
    one = farm.all[0]
    for _ in range(2):
        farm.instances.connection_failed(one, "refused")
    one.failures = 0  # as after every whole answer
    for _ in range(2):
        farm.instances.connection_failed(one, "refused")
    assert one.available
    farm.instances.connection_failed(one, "refused")
    assert (one.state, one.reason) == ("down", "ejected: refused")
    farm.bring_back(one)
    assert one.available


def test_one_that_drains_gets_nothing_at_once_and_comes_back_when_it_is_well(farm: Farm) -> None:
    one = farm.all[0]
    farm.instances.check_succeeded(one)
    farm.instances.says_draining(one)
    assert farm.instances.available == farm.all[1:]
    farm.instances.check_failed(one, "stopped")
    assert one.state == "down"
    farm.bring_back(one)
    assert one.state == "up"


def test_an_operator_drains_one_whatever_checks_say(farm: Farm) -> None:
    one = farm.all[0]
    one.ask_to_drain(True)
    farm.instances.check_succeeded(one)
    assert farm.instances.available == farm.all[1:]
    one.ask_to_drain(False)
    assert farm.instances.available == farm.all


def test_slow_start_gives_a_growing_share(farm: Farm) -> None:
    one = farm.all[0]
    farm.take_down(one)
    farm.bring_back(one)
    strategy = RoundRobin()

    def share() -> float:
        assert farm.instances.any_slow
        picks = Counter(
            strategy.pick(farm.instances.available, farm.instances.weight).name
            for _ in range(2_100)
        )
        return picks[one.name] / 2_100

    assert share() == pytest.approx(0.1 / 2.1, abs=0.01)
    farm.clock.advance(5)
    assert share() == pytest.approx(0.5 / 2.5, abs=0.01)
    farm.clock.advance(5)
    assert farm.instances.weight(one) == 1
    assert not farm.instances.any_slow


def test_going_down_again_ends_a_slow_start(farm: Farm) -> None:
    one = farm.all[0]
    farm.take_down(one)
    farm.bring_back(one)
    farm.take_down(one)
    assert not farm.instances.any_slow
    farm.clock.advance(100)
    farm.bring_back(one)
    assert farm.instances.weight(one) == pytest.approx(0.1)


def test_those_that_stay_configured_keep_their_state(farm: Farm) -> None:
    farm.instances.configure([one.name for one in farm.all])
    added, removed = list[str](), list[str]()
    farm.instances.on_added = lambda one: added.append(one.name)
    farm.instances.on_removed = lambda one: removed.append(one.name)
    first, second, third = farm.all
    farm.take_down(second)
    farm.instances.configure([second.name, third.name, "http://10.0.0.9:80"])
    assert (added, removed) == (["http://10.0.0.9:80"], [first.name])
    assert farm.instances.get(second.name) is second
    assert second.state == "down"
    assert first.state == "removed"
    assert not first.available


def test_what_was_added_and_removed_at_run_time_stays_so(farm: Farm) -> None:
    first, second, third = [one.name for one in farm.all]
    farm.instances.configure([first, second])
    farm.instances.remove(farm.all[0])
    farm.instances.configure([first, second])
    assert [one.name for one in farm.instances] == [second, third]
    farm.instances.configure([second])
    farm.instances.configure([second, first])
    assert [one.name for one in farm.instances] == [second, third, first]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "10.0.0.1:80",
        "https://a:1",
        "http://",
        "http://a/x",
        "http://a:x",
        "http://u@a",
        "http://a?b",
    ],
)
def test_an_address_that_is_none_changes_nothing(farm: Farm, url: str) -> None:
    with pytest.raises(ConfigurationError):
        farm.instances.configure(["http://10.0.0.9:80", url])
    assert list(farm.instances) == farm.all


def test_least_connections_prefers_the_idle_and_takes_turns_among_equals(farm: Farm) -> None:
    strategy = LeastConnections()
    picks = [strategy.pick(farm.instances.available, None).name for _ in range(6)]
    assert Counter(picks) == dict.fromkeys([one.name for one in farm.all], 2)
    farm.all[0].active, farm.all[1].active, farm.all[2].active = 3, 1, 2
    assert strategy.pick(farm.instances.available, None) is farm.all[1]
    # With a tenth of its weight, one exchange counts as ten.
    assert strategy.pick(farm.all, lambda one: 0.1 if one is farm.all[1] else 1.0) is farm.all[2]


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 64, "host name", "ü.example", "a.", "a_b.c-d", "10.0.0.1", "[::1]"]
)
def test_an_instance_has_a_name_that_can_be_looked_up(farm: Farm, host: str) -> None:
    url = f"http://{host}:8001"
    if host in {"a..b", "a" * 64, "host name", "ü.example"}:
        with pytest.raises(ConfigurationError, match="not the name of a host"):
            farm.instances.add(url)
    else:
        assert farm.instances.add(url).name == url


def test_an_instance_has_a_port(farm: Farm) -> None:
    with pytest.raises(ConfigurationError, match="port 0"):
        farm.instances.add("http://10.0.0.1:0")
