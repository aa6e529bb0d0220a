"""The balancer in front of a cluster: one address for all instances, also over HTTPS."""

from __future__ import annotations

import os
import re
import signal
import ssl
import stat
import threading
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest

from taskflow.client import Client
from tests.acceptance.balancer.test_rolling_restart import submit_on_and_on
from tests.acceptance.cluster.test_cluster import PATIENCE_SECONDS, Cluster, running, until
from tests.support.postgres import Postgres

pytestmark = pytest.mark.timeout(600)

SETTINGS = {"TASKFLOW_QUEUE_BACKEND": "local", "TASKFLOW_PAYLOAD_BACKEND": "files"}


def row(cluster: Cluster, name: str) -> str:
    [line] = re.findall(rf"^cluster +\|   {name} +(.*?)\s*$", cluster.plain, re.MULTILINE)
    return str(line)


def process_of(cluster: Cluster, address: str) -> psutil.Process:
    port = address.rpartition(":")[2]
    return next(process for process in cluster.family() if port in process.cmdline())


def states(cluster: Cluster, client: httpx.Client) -> dict[str, str]:
    """State of each instance by its address, as the balancer sees it."""
    [password] = re.findall(r"password: ([\w-]+)\)", cluster.plain)
    found = client.get("/_balancer/status", auth=("", password)).json()
    return {one["instance"]: one["state"] for one in found["instances"]}


@pytest.mark.slow
def test_one_https_address_serves_while_an_instance_dies(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    with running(
        tmp_path,
        "--instances=2",
        "--workers=1",
        "--https",
        **SETTINGS,
        TASKFLOW_TEST_DATABASE_URL=postgres_server.url,
        TASKFLOW_BALANCER_HEALTH_INTERVAL_SECONDS="0.2",
    ) as cluster:
        cluster.until_said("update-ca-certificates")
        address = row(cluster, "balancer").replace("127.0.0.1", "localhost")
        assert address.startswith("https://")
        tls = cluster.home / "tls"
        trusted = ssl.create_default_context(cafile=str(tls / "authority.pem"))
        assert f"curl --cacert {tls / 'authority.pem'}" in cluster.plain
        for secret in ("authority.key", "server.key"):
            assert stat.S_IMODE(os.stat(tls / secret).st_mode) == 0o600
        with httpx.Client(base_url=address, verify=trusted, timeout=30) as client:
            second = cluster.addresses[1]
            process_of(cluster, second).kill()
            for _ in range(20):
                assert client.get("/api/v1/handlers").status_code == 200
            accepted = client.post("/api/v1/tasks", json={"task": "double", "args": ["a"]})
            assert accepted.status_code == 202
            task = client.get(accepted.headers["Location"], params={"wait": 20}).json()
            assert task["result"] == "aa"
            until(lambda: set(states(cluster, client).values()) == {"up"})
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        with Client(cluster.addresses[0]) as direct:
            assert direct.handle(task["task_id"]).result(PATIENCE_SECONDS) == "aa"


@pytest.mark.slow
def test_a_rolling_restart_with_default_settings_fails_no_request(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    stop, outcomes = threading.Event(), Counter[object]()
    with running(
        tmp_path,
        "--instances=2",
        "--workers=1",
        **SETTINGS,
        TASKFLOW_TEST_DATABASE_URL=postgres_server.url,
    ) as cluster:
        cluster.until_said("Ctrl-C stops.")
        address = row(cluster, "balancer")
        load = [
            threading.Thread(target=submit_on_and_on, args=(address, stop, outcomes))
            for _ in range(2)
        ]
        for thread in load:
            thread.start()
        try:
            with httpx.Client(base_url=address, timeout=30) as client:
                for instance in cluster.addresses:
                    process_of(cluster, instance).send_signal(signal.SIGTERM)
                    until(lambda one=instance: states(cluster, client)[one] != "up")  # type: ignore[misc]
                    until(lambda: set(states(cluster, client).values()) == {"up"})
        finally:
            stop.set()
            for thread in load:
                thread.join()
        assert set(outcomes) == {("POST", 202), ("GET", 200)}, outcomes
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(PATIENCE_SECONDS) == 0
    assert cluster.plain.count("server.draining") == 2, "not when all of the cluster stops"
