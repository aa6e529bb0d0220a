"""A server process for a measurement: `taskflow dev`, or the same application answering without storing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.005
BODY = json.dumps({"task": "noop", "args": [1]}).encode()


@dataclass
class Server:
    pid: int
    port: int
    accepted_seconds: float  # from the start of the process until its first task was accepted
    stopped_seconds: float = 0.0  # from SIGTERM until the process had ended, then


def taskflow_dev(*arguments: str) -> list[str]:
    """`taskflow dev` as a user runs it."""
    return [str(Path(sys.executable).with_name("taskflow")), "dev", *arguments]


def taskflow_worker(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("taskflow")), "worker", *arguments]


@contextmanager
def serving(
    command: Sequence[str], directory: Path, *, accepts_tasks: bool = True
) -> Iterator[Server]:
    """Run ``command`` (it reads `TASKFLOW_…`) until it has accepted a task, or is well if that is not for it to do;
    then end it by SIGTERM."""
    port = _free_port()
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TASKFLOW_")
            and name != "PYTHONDONTWRITEBYTECODE"  # what is installed has its bytecode
        },
        "TASKFLOW_HOME": str(directory),
        "TASKFLOW_PORT": str(port),
        "TASKFLOW_WORKER_HEALTH_PORT": "0" if accepts_tasks else str(port),
        "TASKFLOW_TASKS": "benchmarks.handlers",
        "PYTHONPATH": str(ROOT),
    }
    with (directory / "server.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _until_answered(process, port, directory / "server.log", accepts_tasks)
            server = Server(process.pid, port, time.perf_counter() - began)
            yield server
            server.stopped_seconds = _stop(process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _stop(process: subprocess.Popen[bytes]) -> float:
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.wait(_START_SECONDS)
    return time.perf_counter() - began


def _until_answered(
    process: subprocess.Popen[bytes], port: int, log: Path, accepts_tasks: bool
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
        try:
            if accepts_tasks:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/api/v1/tasks", BODY, headers)
            else:
                connection.request("GET", "/health")
            answer = connection.getresponse()
            if answer.status == 503 and not accepts_tasks:
                time.sleep(_LOOK_SECONDS)
                continue
            if answer.status not in (200, 202):
                raise RuntimeError(f"the server answered {answer.status}: {answer.read()!r}")
        except ConnectionError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
        finally:
            connection.close()
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4_000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
