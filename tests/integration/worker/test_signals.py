"""SIGTERM and SIGINT in a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_SCRIPT = """
import sys, threading, time
from taskflow import TaskFlow, task
from taskflow.worker.signals import StopSignals

@task()
def work(kind: str) -> None:
    print("running", flush=True)
    if kind == "short":
        sys.stdin.readline()
    while kind == "endless":
        time.sleep(0.001)

app = TaskFlow(home=sys.argv[1], num_workers=1, shutdown_grace_seconds=600).start()
worker = app.worker

def stop():
    print("stopping", flush=True)
    worker.stop()

with StopSignals(stop, worker.release) as signals:
    handle = work.submit(sys.argv[2])
    signals.wait()
print(handle.refresh().status if hasattr(handle, "refresh") else app.get(handle.id).status, flush=True)
app.stop()
"""


@pytest.fixture
def process(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "home"), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
    ) as process:
        yield process
        process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("process", ["short"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_attempts_finish(process: subprocess.Popen[str], number: int) -> None:
    assert line(process) == "running"
    process.send_signal(number)
    assert line(process) == "stopping"
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert line(process) == "completed"
    assert process.wait(20) == 0


@pytest.mark.parametrize("process", ["endless"], indirect=True)
def test_the_second_signal_releases_them(process: subprocess.Popen[str]) -> None:
    assert line(process) == "running"
    process.send_signal(signal.SIGTERM)
    assert line(process) == "stopping"
    process.send_signal(signal.SIGTERM)
    assert line(process) == "pending"
    assert process.wait(20) == 0
