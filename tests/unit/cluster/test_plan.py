"""What the processes of a cluster are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.cluster.plan import Plan, groups


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_addresses_are_those_that_clients_and_the_balancer_can_use(
    tmp_path: Path, host: str, reached_at: str
) -> None:
    plan = Plan(
        directory=tmp_path,
        host=host,
        ports=(8001, 8002),
        health_ports=(),
        emulator=None,
        emulator_port=0,
        postgres_directory=tmp_path,
        postgres_port=None,
        balancer_port=8000,
        balancer_token="token",
        certificate=None,
        grace_seconds=1.0,
        settings={},
    )
    addresses = [f"http://{reached_at}:8001", f"http://{reached_at}:8002"]
    assert plan.addresses == addresses
    assert plan.balancer_address == f"http://{reached_at}:8000"
    [balancer] = groups(plan)[-1]
    assert balancer.arguments[1:3] == tuple(addresses)
