"""The logs of real processes: tasks that end in every way, and requests, once for all tests here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from taskflow.cli.program import program
from tests.support.server import ROOT, serving
from tests.support.waiting import wait_for

UNKNOWN = "00000000-0000-7000-8000-000000000000"
TASKS = "tests.integration.observability.handlers"


@dataclass(frozen=True)
class Logged:
    """``home`` has the files; ``printed`` is what the processes wrote to stderr; ``ids`` are tasks by what they are."""

    home: Path
    printed: list[dict[str, Any]]
    ids: dict[str, str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        files = sorted((self.home / "logs").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def of(self, event: str, task_id: str | None = None) -> list[dict[str, Any]]:
        return [
            line
            for line in self.lines
            if line["event"] == event and task_id in (None, line.get("task_id"))
        ]

    def ask(self, *arguments: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(
            program,
            ["logs", *arguments, "--json"],
            env={"TASKFLOW_HOME": str(self.home)},
            catch_exceptions=False,
        )
        assert result.exit_code == 0, result.stderr
        rows: list[dict[str, Any]] = json.loads(result.stdout)
        return rows


def is_submission_in(text: str, task_id: str) -> bool:
    return any('"http.request"' in line and task_id in line for line in text.splitlines())


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    directory = tmp_path_factory.mktemp("logged")
    ids: dict[str, str] = {}
    logs = []
    environment = {"TASKFLOW_LOG_FORMAT": "json", "TASKFLOW_RETRY_CAP_SECONDS": "0.01"}

    def submit(url: str, name: str, **kwargs: Any) -> str:
        answer = httpx.post(f"{url}/api/v1/tasks", json={"task": name, "kwargs": kwargs})
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["task_id"]
        return task_id

    def ended(url: str, task_id: str) -> str:
        answer = httpx.get(f"{url}/api/v1/tasks/{task_id}?wait=20", timeout=30)
        status: str = answer.json()["status"]
        return status

    marker = directory / "held"
    with serving(directory, tasks=TASKS, environment=environment) as server:
        home = server.home
        for name, kwargs in {
            "quick": {"n": 2},
            "slow": {},
            "broken": {"code": 7},
            "flaky": {},
        }.items():
            ids[name] = submit(server.url, name, **kwargs)
        ids["broken again"] = submit(server.url, "broken", code=8)
        for name, task_id in ids.items():
            assert ended(server.url, task_id) == ("failed" if "broken" in name else "completed")
        ids["patient"] = submit(server.url, "patient")
        task_url = f"{server.url}/api/v1/tasks/{ids['patient']}"
        wait_for(lambda: httpx.get(task_url).json()["status"] == "running", "it runs")
        assert httpx.post(f"{task_url}/cancel").status_code == 200
        assert ended(server.url, ids["patient"]) == "cancelled"
        assert httpx.get(f"{server.url}/api/v1/tasks/{UNKNOWN}").status_code == 404
        ids["hold"] = submit(server.url, "hold", marker=str(marker))
        wait_for(marker.exists, "the task that is to be interrupted runs")
        # It may run before its submission is in the logs: in those that are printed, and in those that are kept.
        for logs_of in (lambda: [server.log], (home / "logs").iterdir):
            wait_for(
                lambda logs_of=logs_of: any(  # type: ignore[misc]
                    is_submission_in(path.read_text(), ids["hold"]) for path in logs_of()
                ),
                "the submission is logged",
            )
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        logs.append(server.log.read_text())
    with serving(directory, tasks=TASKS, environment=environment) as server:
        assert ended(server.url, ids["hold"]) == "completed"
    logs.append(server.log.read_text())
    dead = subprocess.run(
        [sys.executable, "-m", "tests.integration.observability.dead_message", str(home)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    ids["dead message"] = dead.stdout.strip()
    logs.append(dead.stderr)
    printed = [
        orjson.loads(line) for text in logs for line in text.splitlines() if line.startswith("{")
    ]
    return Logged(home, printed, ids)
