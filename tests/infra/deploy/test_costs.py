"""The estimate follows the profiles and the prices, and nothing costs less under more load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdk.profiles import PROFILES
from deployment import prices
from deployment.costs import MONTH_SECONDS, RATES, database_class, estimate


@pytest.mark.parametrize("name", PROFILES)
def test_more_load_never_costs_less(name: str) -> None:
    dollars = [estimate(PROFILES[name], tasks_per_second=rate).dollars for rate in RATES]
    assert dollars == sorted(dollars)
    assert dollars[0] > 0


def test_the_cheapest_idle_profile_is_the_serverless_one() -> None:
    idle = {name: estimate(profile).dollars for name, profile in PROFILES.items()}
    assert min(idle, key=lambda name: idle[name]) == "serverless"
    assert max(idle, key=lambda name: idle[name]) == "standard"


def test_a_part_is_its_price_times_its_number() -> None:
    standard = PROFILES["standard"]
    network = replace(standard.network, nat_gateways=2, interface_endpoints=("sqs", "logs"))
    lines = {line.item: line.dollars for line in estimate(replace(standard, network=network)).lines}
    assert lines["NAT gateways"] == pytest.approx(2 * (0.045 + 0.005) * 730)
    assert lines["Interface endpoints"] == pytest.approx(2 * 2 * 0.01 * 730)
    hour = prices.DATABASE_CLASS_HOUR[standard.database.instance_class][0]
    assert lines["PostgreSQL"] == pytest.approx(2 * hour * 730)  # two zones


def test_queues_are_paid_per_task_and_batched_under_load() -> None:
    standard = PROFILES["standard"]
    idle, one, many = (
        next(
            line.dollars
            for line in estimate(standard, tasks_per_second=rate).lines
            if line.item == "SQS"
        )
        for rate in (0.0, 1.0, 1_000.0)
    )
    each = (one - idle) / MONTH_SECONDS
    assert each == pytest.approx(3 * 0.4e-6 + 0.1e-6)
    assert (many - idle) / MONTH_SECONDS / 1_000 == pytest.approx(0.3 * 0.4e-6 + 0.1e-6)


def test_the_database_grows_with_the_load_and_is_never_smaller_than_the_profile_says() -> None:
    assert database_class(PROFILES["standard"], 0) == PROFILES["standard"].database.instance_class
    assert database_class(PROFILES["dev"], 1_000) == "db.m7g.xlarge"
    assert database_class(PROFILES["dev"], 1e9) == list(prices.DATABASE_CLASS_HOUR)[-1]


def test_every_class_of_a_profile_has_a_price() -> None:
    assert {profile.database.instance_class for profile in PROFILES.values()} <= set(
        prices.DATABASE_CLASS_HOUR
    )
