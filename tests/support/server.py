"""A real TaskFlow server, `taskflow dev`, as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


@dataclass(frozen=True)
class ServerProcess:
    process: subprocess.Popen[bytes]
    port: int
    home: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(
    directory: Path,
    *,
    command: tuple[str | Path, ...] = (Path(sys.executable).with_name("taskflow"), "dev"),
    cwd: Path | None = None,
    tasks: str = "examples.sample_tasks",
    environment: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """Runs ``command`` with a home below ``directory`` until it answers; stops it by SIGTERM, then by force."""
    port, home, log = free_port(), directory / "home", directory / "server.log"
    settings = {
        "TASKFLOW_HOME": str(home),
        "TASKFLOW_PORT": str(port),
        "TASKFLOW_TASKS": tasks,
        "PYTHONPATH": str(ROOT),
        **(environment or {}),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd or directory,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_healthy(process, port, log)
        yield ServerProcess(process, port, home, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until ``/health`` answers. Raises AssertionError with the log when the process ended instead."""
    for _ in range(START_SECONDS * 50):
        connection = HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # not listening yet, or gone while it started
        finally:
            connection.close()
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the server did not start:\n{log.read_text()[-4_000:]}")
