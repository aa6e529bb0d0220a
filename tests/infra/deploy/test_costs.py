"""The estimate follows the profiles and the prices, and nothing costs less under more load."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cdk.profiles import PROFILES
from deployment import prices
from deployment.cli.money import cost_json, cost_table, estimates
from deployment.costs import (
    AWS_BYTES,
    MONTH_SECONDS,
    RATES,
    Estimate,
    database_class,
    estimate,
    sized,
    unpriced,
)


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


def dollars(one: Estimate) -> dict[str, float]:
    return {line.item: line.dollars for line in one.lines}


@pytest.mark.parametrize("name", PROFILES)
def test_programs_get_what_people_read(name: str) -> None:
    found = estimates(PROFILES[name])
    answer = cost_json(found)
    table = cost_table(found)
    totals = [str(column.footer) for column in table.columns[1:-1]]
    assert totals == [f"${one['dollars']:,.0f}" for one in answer["estimates"]]
    parts = [line["item"] for line in answer["estimates"][-1]["lines"]]
    assert set(parts) <= set(table.columns[0].cells)
    # Alarms are in it: they are counted in the template, which only the callers know.
    [alarms] = [line for line in found[0].lines if line.item.startswith("Secret, alarms")]
    assert alarms.dollars > prices.SECRET_MONTH + prices.DASHBOARD_MONTH + 3


def test_the_estimate_follows_the_parameters_of_the_stack() -> None:
    serverless = PROFILES["serverless"]
    asked = {"NatGateways": "2", "DatabaseMultiAz": "true", "DatabaseProxy": "true"}
    before, after = (dollars(estimate(one)) for one in (serverless, sized(serverless, asked)))
    assert after["NAT gateways"] == pytest.approx(2 * (0.045 + 0.005) * 730)
    assert after["PostgreSQL"] == pytest.approx(2 * before["PostgreSQL"])
    assert after["RDS Proxy"] == pytest.approx(2 * 0.015 * 730)
    assert not {"NAT gateways", "RDS Proxy"} & set(before)
    assert sized(serverless, {}) == serverless

    more = {"ApiCount": "4", "ApiCpu": "1024", "RetentionDays": "7", "LogRetentionDays": "1"}
    standard = PROFILES["standard"]
    before, after = (
        dollars(estimate(one, tasks_per_second=100.0))
        for one in (standard, sized(standard, {**more, "DatabaseInstanceClass": "db.m7g.2xlarge"}))
    )
    assert after["API on Fargate"] > before["API on Fargate"]
    assert after["PostgreSQL"] == pytest.approx(2 * 0.674 * 730)
    assert after["Its storage"] < before["Its storage"]
    assert after["Logs"] < before["Logs"]


def test_a_class_without_a_price_is_named() -> None:
    asked = {"DatabaseInstanceClass": "db.x99.huge"}
    assert unpriced(asked) == "db.x99.huge"
    assert unpriced({"DatabaseInstanceClass": "db.t4g.micro"}) is None
    standard = PROFILES["standard"]
    assert sized(standard, asked).database == standard.database


def test_what_passes_gateways_and_endpoints_is_paid_by_the_gigabyte() -> None:
    gb = 100 * MONTH_SECONDS * AWS_BYTES / 1e9
    for name, item, price in (
        ("dev", "NAT gateways", 0.045),
        ("standard", "Interface endpoints", 0.01),
    ):
        idle, busy = (
            dollars(estimate(PROFILES[name], tasks_per_second=rate))[item] for rate in (0.0, 100.0)
        )
        assert busy - idle == pytest.approx(gb * price)
    by_ipv6 = sized(PROFILES["serverless"], {"NatGateways": "1"})
    idle, busy = (
        dollars(estimate(by_ipv6, tasks_per_second=rate))["NAT gateways"] for rate in (0.0, 100.0)
    )
    assert busy == idle
