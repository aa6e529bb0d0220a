"""`taskflow balancer` as a process of its own, and raw conversations with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.ports import free_port
from tests.support.server import ROOT, START_SECONDS

TOKEN = "an-admin-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class BalancerProcess:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self) -> dict[str, object]:
        # Asked again and again: without `verify` each call would read the certificates of all authorities first.
        answer = httpx.get(f"{self.url}/_balancer/status", headers=AUTHORIZED, verify=False)
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    def states(self) -> dict[str, str]:
        """State of each instance by its address."""
        instances = self.status()["instances"]
        assert isinstance(instances, list)
        return {one["instance"]: one["state"] for one in instances}

    def add(self, instance: str) -> None:
        httpx.post(
            f"{self.url}/_balancer/instances", params={"url": instance}, headers=AUTHORIZED
        ).raise_for_status()


@contextmanager
def balancing(
    directory: Path,
    instances: Sequence[str],
    *,
    arguments: Sequence[str] = (),
    **settings: object,
) -> Iterator[BalancerProcess]:
    """Runs ``taskflow balancer`` over ``instances``; ``settings``: TASKFLOW_BALANCER_…, in lower case."""
    port, log = free_port(), directory / f"balancer-{free_port()}.log"
    environment: Mapping[str, str] = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TASKFLOW_BALANCER_PORT": str(port),
        "TASKFLOW_BALANCER_INSTANCES": ",".join(instances),
        "TASKFLOW_BALANCER_ADMIN_TOKEN": TOKEN,
        "TASKFLOW_LOG_FORMAT": "json",
        **{f"TASKFLOW_BALANCER_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("taskflow"), "balancer", *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _until_started(process, log)
        yield BalancerProcess(process, port, log)
        assert "Traceback" not in log.read_text(), log.read_text()[-4_000:]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _until_started(process: subprocess.Popen[bytes], log: Path) -> None:
    """And every instance has been asked once: the socket is open before that."""
    for _ in range(START_SECONDS * 50):
        if "balancer.started" in log.read_text():
            return
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    raise AssertionError(f"the balancer did not start:\n{log.read_text()[-4_000:]}")


@contextmanager
def connection(port: int, *, timeout: float = 30) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as raw:
        yield raw


def converse(port: int, data: bytes, *, timeout: float = 30) -> bytes:
    """Send ``data`` and the end of it; everything that comes back until the other side closes."""
    with connection(port, timeout=timeout) as raw:
        try:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was refused before all of it was sent
        return read_all(raw)


def read_all(raw: socket.socket) -> bytes:
    received = bytearray()
    while True:
        try:
            data = raw.recv(65_536)
        except ConnectionResetError:
            return bytes(received)
        if not data:
            return bytes(received)
        received += data


def read_until(raw: socket.socket, end: bytes) -> bytes:
    received = bytearray()
    while not received.endswith(end):
        data = raw.recv(65_536)
        assert data, f"closed after {bytes(received)!r}"
        received += data
    return bytes(received)
