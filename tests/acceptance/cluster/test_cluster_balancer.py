"""The balancer in front of a cluster: one address for all instances, also over HTTPS."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path

import httpx
import psutil
import pytest

from taskflow.client import Client
from tests.acceptance.cluster.test_cluster import Cluster, running, until
from tests.support.postgres import Postgres


def row(cluster: Cluster, name: str) -> str:
    [line] = re.findall(rf"^cluster +\|   {name} +(.*?)\s*$", cluster.plain, re.MULTILINE)
    return str(line)


@pytest.mark.slow
def test_one_https_address_serves_while_an_instance_dies(
    tmp_path: Path, postgres_server: Postgres
) -> None:
    with running(
        tmp_path,
        "--instances=2",
        "--workers=1",
        "--https",
        TASKFLOW_QUEUE_BACKEND="local",
        TASKFLOW_PAYLOAD_BACKEND="files",
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
            victim: psutil.Process = next(
                process
                for process in cluster.family()
                if second.rpartition(":")[2] in process.cmdline()
            )
            victim.kill()
            for _ in range(20):
                assert client.get("/api/v1/handlers").status_code == 200
            accepted = client.post("/api/v1/tasks", json={"task": "double", "args": ["a"]})
            assert accepted.status_code == 202
            task = client.get(accepted.headers["Location"], params={"wait": 20}).json()
            assert task["result"] == "aa"
            password = re.findall(r"password: ([\w-]+)\)", cluster.plain)[0]

            def all_up() -> bool:
                found = client.get("/_balancer/status", auth=("", password)).json()
                return {one["state"] for one in found["instances"]} == {"up"}

            until(all_up)
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        with Client(cluster.addresses[0]) as direct:
            assert direct.handle(task["task_id"]).result(10) == "aa"
