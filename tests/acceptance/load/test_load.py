"""Many users at once against a real server: no request fails, and everything accepted comes to an end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from taskflow import Client
from tests.support.server import ROOT, serving

SECONDS = 6
USERS = 25


def test_a_server_under_load_answers_every_request_and_ends_every_task(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"TASKFLOW_LOG_LEVEL": "warning"}) as server:
        locust = subprocess.run(
            [
                *(sys.executable, "-m", "locust", "-f", ROOT / "benchmarks" / "locustfile.py"),
                *("--host", server.url, "--headless", "--only-summary", "--json"),
                *("-u", str(USERS), "-r", str(USERS), "-t", f"{SECONDS}s"),
                *("--stop-timeout", "30"),  # what a user has scheduled it cancels, too
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert locust.returncode == 0, locust.stderr[-4_000:]
        requests = {entry["name"]: entry for entry in json.loads(locust.stdout)}
        assert {
            name: entry["num_failures"] for name, entry in requests.items() if entry["num_failures"]
        } == {}
        assert requests["/api/v1/tasks"]["num_requests"] > 10  # a busy machine: hundreds elsewhere
        with Client(server.url) as client:
            for status in ("pending", "running", "retrying"):
                while waiting := client.list(status=status, limit=100).items:
                    for task in waiting:
                        assert client.wait(task.task_id, 30).status.is_final
            counts = client.metrics()["queue"]
        unfinished = ("scheduled", "blocked", "pending", "running", "retrying")
        assert {status: counts[f"{status}_count"] for status in unfinished} == dict.fromkeys(
            unfinished, 0
        )
        assert counts["completed_count"] > 10
