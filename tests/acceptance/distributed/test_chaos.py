"""Three API and three worker processes on SQS, S3 and PostgreSQL while everything around them fails.

A round: load for some seconds; every second one of the six is killed and replaced; PostgreSQL crashes and comes back
once; SQS is unreachable for five seconds once; a good tenth of the deliveries comes twice, out of order, or is not
acknowledged. Then the backlog drains, and the store and a witness are looked at.

``TASKFLOW_TEST_CHAOS_ROUNDS=50`` (`make chaos`) for as many rounds.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.acceptance.crash.processes import Nursery, nursery
from tests.acceptance.distributed import handlers
from tests.acceptance.distributed.clients import Clients
from tests.acceptance.distributed.fleet import Fleet
from tests.acceptance.distributed.verdict import judge, stuck, unfinished, unsent
from tests.support import aws, backends
from tests.support.aws_proxy import AwsProxy, aws_proxy
from tests.support.postgres_cluster import Cluster, cluster

ROUNDS = int(os.environ.get("TASKFLOW_TEST_CHAOS_ROUNDS", "1"))
_ROUND_SECONDS = 8
_UNREACHABLE_SECONDS = 5.0
_LEASE_SECONDS = 5.0
_DRAIN_SECONDS = 120.0


@pytest.fixture
def database() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture
def nursery_of_processes() -> Iterator[Nursery]:
    with nursery() as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(120 + 200 * ROUNDS)
def test_all_accepted_tasks_end_once_whatever_fails(
    tmp_path: Path,
    nursery_of_processes: Nursery,
    database: Cluster,
    emulated_aws: backends.Emulated,
    postgres_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = os.environ.get("TASKFLOW_TEST_CHAOS_SEED", str(time.time_ns()))
    print(f"TASKFLOW_TEST_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    _execute(postgres_database, handlers.TABLE)
    backends.migrate_database(database.url)
    settings = emulated_aws.everything(database.url)
    with aws_proxy(emulated_aws.url) as proxy:
        environment = {
            **backends.environment(
                settings
                | {
                    "home": tmp_path / "home",
                    "lease_seconds": _LEASE_SECONDS,
                    "retry_base_seconds": 0.1,
                    "max_crashes": 1_000,  # of the workers' deaths none is the task's fault
                    "chaos_seed": rng.randint(1, 10**6),
                }
            ),
            **aws.environment(proxy.url),
            handlers.WITNESS: postgres_database,
        }
        roles = {
            kind: emulated_aws.identity(role, settings["queue_prefix"])
            for kind, role in (("api", "ApiRole"), ("worker", "WorkerRole"))
        }
        fleet = Fleet(nursery_of_processes, tmp_path, environment, rng, roles=roles)
        accepted: dict[str, object] = {}
        try:
            for number in range(ROUNDS):
                fleet.wait_until_ready()
                clients = Clients(fleet.ports, rng)
                try:
                    _fail(fleet, database, proxy, rng)
                finally:
                    clients.stop(fleet.replace_ended)
                assert not clients.complaints, clients.complaints[:3]
                accepted |= clients.accepted
                _until_none(unfinished, database.url, fleet)
                judge(database.url, postgres_database, accepted, fleet.deaths)
                print(f"round {number + 1}: {len(accepted)} tasks, {len(fleet.deaths)} kills")
            _until_none(unsent, database.url, fleet)
        finally:
            fleet.stop()
        assert len(accepted) > 10 * ROUNDS
        assert [emulated_aws.refused(identity) for identity in roles.values()] == [[], []]


def _fail(fleet: Fleet, database: Cluster, proxy: AwsProxy, rng: random.Random) -> None:
    """One round of it."""
    cut_off = threading.Timer(rng.uniform(0, 2), _cut_off, [proxy])
    cut_off.start()
    crash_in = rng.randrange(1, _ROUND_SECONDS - 1)
    for second in range(_ROUND_SECONDS):
        threading.Event().wait(1.0)  # the rate of kills that is asked for, not a wait for something
        if second == crash_in:
            database.stop()
            fleet.kill_one()
            database.start()
        else:
            fleet.kill_one()
        fleet.replace_ended()
    cut_off.join()


def _cut_off(proxy: AwsProxy) -> None:
    with proxy.unreachable():
        threading.Event().wait(_UNREACHABLE_SECONDS)


def _until_none(left: Callable[[str], int], url: str, fleet: Fleet) -> None:
    deadline = time.monotonic() + _DRAIN_SECONDS
    while count := left(url):
        fleet.replace_ended()
        if time.monotonic() > deadline:
            pytest.fail(f"{count} are still {left.__name__}:\n{stuck(url)}")
        threading.Event().wait(0.1)


def _execute(url: str, statement: str) -> None:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute(statement)
    connection.close()
