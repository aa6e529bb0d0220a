"""A server's metrics: among its logs, once in a while and when it stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.integration.observability.conftest import TASKS
from tests.support.emf_schema import validate
from tests.support.server import ServerProcess, serving
from tests.support.waiting import wait_for


def documents(server: ServerProcess) -> list[dict[str, Any]]:
    found = []
    for line in server.log.read_text().splitlines():
        if line.startswith('{"_aws"'):
            document = json.loads(line)
            validate(line, document)
            found.append(document)
    return found


def total(server: ServerProcess, name: str) -> int:
    return sum(document.get(name, 0) for document in documents(server))


def test_a_server_writes_metrics_between_its_log_lines(tmp_path: Path) -> None:
    settings = {
        "TASKFLOW_METRICS_EMF": "true",
        "TASKFLOW_METRICS_EMF_SECONDS": "1",
        "TASKFLOW_LOG_FORMAT": "json",
        "TASKFLOW_QUEUE_PREFIX": "emf-test",
    }
    with serving(tmp_path, tasks=TASKS, environment=settings) as server:
        body = {"tasks": [{"task": "quick"}] * 3 + [{"task": "broken", "kwargs": {"code": 1}}]}
        assert httpx.post(f"{server.url}/api/v1/tasks/batch", json=body).status_code == 202
        wait_for(lambda: total(server, "Completed") == 3, "three completed tasks among the metrics")
        wait_for(lambda: any("OutboxLag" in d for d in documents(server)), "a look at the store")
        late = httpx.post(f"{server.url}/api/v1/tasks?", json={"task": "quick"}).json()["task_id"]
        httpx.get(f"{server.url}/api/v1/tasks/{late}?wait=10", timeout=20)
    found = documents(server)
    assert total(server, "Submitted") == 5
    assert (
        total(server, "Completed") == 4
    )  # what came after the last interval was written at the end
    assert total(server, "Failed") == 1
    oldest = {d["priority"]: d["OldestWaiting"] for d in found if "OldestWaiting" in d}
    assert set(oldest) == {"critical", "high", "normal", "low"}
    namespaces = {
        directive["Namespace"] for d in found for directive in d["_aws"]["CloudWatchMetrics"]
    }
    assert namespaces == {"TaskFlow/emf-test"}
    assert all(document.get("service", "dev") == "dev" for document in found)
    others = [line for line in server.log.read_text().splitlines() if line.startswith('{"ts"')]
    assert all(json.loads(line)["event"] for line in others)
