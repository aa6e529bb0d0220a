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


@dataclass(frozen=True)
class Server:
    pid: int
    port: int
    accepted_seconds: float  # from the start of the process until its first task was accepted


def taskflow_dev(*arguments: str) -> list[str]:
    """`taskflow dev` as a user runs it."""
    return [str(Path(sys.executable).with_name("taskflow")), "dev", *arguments]


@contextmanager
def serving(command: Sequence[str], directory: Path) -> Iterator[Server]:
    """Run ``command`` (it reads `TASKFLOW_…`) until it has accepted a task; then end it by SIGTERM."""
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
            _until_accepted(process, port, directory / "server.log")
            yield Server(process.pid, port, time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_START_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _until_accepted(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECONDS)
        try:
            connection.request("POST", "/api/v1/tasks", BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 202:
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
