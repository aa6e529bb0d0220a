"""The numbers of cdk/profiles.py fit each other, and the program they are for."""

from __future__ import annotations

import pytest

from cdk import profiles
from cdk.profiles import PROFILES, ApiContainers, ApiFunction, Profile
from cdk.workers import LEAST_CONCURRENCY
from deployment import prices
from taskflow.adapters.payloads import s3_bucket
from taskflow.adapters.queue.sqs import limits, provision
from taskflow.core.submission import MAX_DELAY_SECONDS
from taskflow.core.task import TaskPriority
from taskflow.settings import Settings

_ALL = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@_ALL
def test_every_priority_has_its_queue(profile: Profile) -> None:
    assert [queue.priority for queue in profile.queues] == [
        priority.name.lower() for priority in TaskPriority
    ]


@_ALL
def test_higher_priorities_get_more_and_wait_less(profile: Profile) -> None:
    concurrency = [queue.function_concurrency for queue in profile.queues]
    ages = [queue.age_slo_seconds for queue in profile.queues]
    assert concurrency == sorted(concurrency, reverse=True)
    assert ages == sorted(ages)
    assert all(2 <= number <= 1_000 for number in concurrency)  # what Lambda takes


@_ALL
def test_functions_and_containers_leave_the_database_connections_for_others(
    profile: Profile,
) -> None:
    """A function has one connection, a container the pool's: 60 % of what the instance has, at most."""
    settings = Settings()
    pool = settings.database_pool_size + settings.database_max_overflow
    connections = sum(queue.function_concurrency for queue in profile.queues)
    dead_letter_queues = len(profile.queues) * (2 if profile.long_workers else 1)
    connections += dead_letter_queues * LEAST_CONCURRENCY
    connections += 2  # maintenance, which may overlap with its own last minute or a migration
    if isinstance(profile.api, ApiFunction):
        assert profile.api.concurrency > 0  # it would take them all
        connections += profile.api.concurrency
    if isinstance(profile.api, ApiContainers):
        connections += profile.api.max_count * pool
    if profile.long_workers is not None:
        connections += profile.long_workers.max_count * pool
    assert connections <= 0.6 * profile.database.max_connections


@_ALL
def test_a_task_without_a_timeout_fits_into_a_function(profile: Profile) -> None:
    settings = Settings()
    longest = profile.functions.worker.longest_task_seconds
    assert settings.lambda_margin_seconds == profiles.FUNCTION_MARGIN_SECONDS
    assert profile.default_timeout_seconds <= longest
    assert profile.default_timeout_seconds <= settings.default_timeout
    assert profile.functions.worker.timeout_seconds <= 900  # Lambda's most
    if profile.long_workers is not None:
        assert profile.long_task_seconds == longest


@_ALL
def test_an_api_container_drains_before_it_is_killed(profile: Profile) -> None:
    if not isinstance(profile.api, ApiContainers):
        return
    api = profile.api
    assert api.drain_seconds >= 2 * api.health_interval_seconds
    assert api.stop_seconds > api.drain_seconds + Settings().max_wait_seconds
    assert api.deregistration_seconds >= Settings().max_wait_seconds


@_ALL
def test_a_held_request_ends_before_the_apis_function(profile: Profile) -> None:
    if not isinstance(profile.api, ApiContainers):
        settings = Settings()
        assert (
            profile.api.function.timeout_seconds
            >= settings.max_wait_seconds + settings.lambda_margin_seconds
        )


def test_the_queues_are_made_as_on_an_emulator() -> None:
    assert limits.RETENTION_SECONDS == profiles.RETENTION_SECONDS
    assert limits.DEAD_LETTER_RETENTION_SECONDS == profiles.DEAD_LETTER_RETENTION_SECONDS
    assert Settings().lease_seconds * 2 == profiles.LONG_VISIBILITY_SECONDS
    for profile in PROFILES.values():
        assert {queue.max_receives for queue in profile.queues} == {provision.MAX_RECEIVES}


def test_payloads_are_archived_as_on_an_emulator() -> None:
    assert s3_bucket.ARCHIVE_DAYS == profiles.ARCHIVE_DAYS == 90
    assert s3_bucket.ARCHIVE_CLASS == profiles.ARCHIVE_CLASS


def test_no_retention_makes_the_archive_dearer_than_what_it_saves() -> None:
    """Glacier Instant Retrieval bills 90 days at least."""
    assert not [days for days in profiles.RETENTION_DAYS if 90 < days < 180]


def test_s3_expires_nothing_that_a_task_may_still_need() -> None:
    assert profiles.LONGEST_DELAY_DAYS[-1] * 86_400 >= MAX_DELAY_SECONDS


@_ALL
def test_the_way_to_aws_is_the_cheapest(profile: Profile) -> None:
    """Endpoints where they cost less than NAT gateways that are as available; over IPv6 it costs nothing."""
    network = profile.network
    if network.ipv6_only:
        assert not network.interface_endpoints
        assert network.nat_gateways == 0
        return
    services = len(profiles.STANDARD.network.interface_endpoints)
    zones = network.availability_zones if profile.database.multi_az else 1
    endpoints = services * zones * prices.INTERFACE_ENDPOINT_HOUR
    gateways = zones * (prices.NAT_GATEWAY_HOUR + prices.PUBLIC_ADDRESS_HOUR)
    if network.interface_endpoints:
        # As dear while nothing is said; a GB through a NAT gateway costs four times as much.
        assert endpoints <= gateways * 1.01
        assert network.nat_gateways == 0
    else:
        assert gateways < endpoints * 1.1
        assert network.nat_gateways == zones
