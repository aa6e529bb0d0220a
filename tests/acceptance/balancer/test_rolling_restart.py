"""Instances of the real API behind the balancer are restarted one after the other, under load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.balancer import balancing
from tests.support.ports import free_port
from tests.support.server import ROOT, START_SECONDS, wait_until_healthy
from tests.support.waiting import wait_for

ROUNDS = 2


@contextmanager
def api(
    port: int, directory: Path, *, drain_seconds: float = 0.5
) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / f"api-{port}.log"
    environment = {
        **os.environ,
        "TASKFLOW_HOME": str(directory / "home"),
        "TASKFLOW_PORT": str(port),
        "TASKFLOW_TASKS": "examples.sample_tasks",
        "TASKFLOW_DRAIN_SECONDS": str(drain_seconds),
        "PYTHONPATH": str(ROOT),
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("taskflow"), "api"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_healthy(process, port, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def submit_on_and_on(url: str, stop: threading.Event, outcomes: Counter[object]) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        while not stop.is_set():
            try:
                answer = client.post("/api/v1/tasks", json={"task": "echo", "kwargs": {}})
                outcomes["POST", answer.status_code] += 1
                answer = client.get("/api/v1/tasks", params={"limit": 1})
                outcomes["GET", answer.status_code] += 1
            except httpx.HTTPError as exc:
                outcomes[type(exc).__name__] += 1


def test_ctrl_c_does_not_drain(tmp_path: Path) -> None:
    with api(free_port(), tmp_path, drain_seconds=300) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(START_SECONDS) == 0


def test_a_rolling_restart_fails_no_request(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    stop, outcomes = threading.Event(), Counter[object]()
    with ExitStack() as stack:
        processes = {port: stack.enter_context(api(port, tmp_path)) for port in ports}
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        balancer = stack.enter_context(
            balancing(tmp_path, urls, health_interval_seconds=0.1, slow_start_seconds=0.2, rise=1)
        )
        threads = [
            threading.Thread(target=submit_on_and_on, args=(balancer.url, stop, outcomes))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        try:
            for port in ports * ROUNDS:
                count = outcomes["GET", 200]
                wait_for(lambda count=count: outcomes["GET", 200] > count + 20, "load")  # type: ignore[misc]
                processes[port].send_signal(signal.SIGTERM)
                assert processes[port].wait(START_SECONDS) == 0
                processes[port] = stack.enter_context(api(port, tmp_path))
                wait_for(lambda: set(balancer.states().values()) == {"up"}, "both are up")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert set(outcomes) == {("POST", 202), ("GET", 200)}, outcomes
