"""Latency at a steady rate: requests are sent when they are due, whether or not earlier ones were answered.

`python -m benchmarks.steady_load PORT PATH RATE SECONDS CONNECTIONS` prints JSON. Latency counts from when a
request was due, so that a stall is felt by all who would have come meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from typing import NamedTuple

import httptools
import uvloop


class Latency(NamedTuple):
    p50_ms: float
    p99_ms: float
    answered: int


def measure(port: int, path: str, *, rate: float, seconds: float, connections: int) -> Latency:
    """In a process of its own. Raises RuntimeError when an answer was not 200."""
    numbers = (str(rate), str(seconds), str(connections))
    command = [sys.executable, "-m", "benchmarks.steady_load", str(port), path, *numbers]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    if answer.pop("errors"):
        raise RuntimeError("requests failed")
    return Latency(**answer)


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._due: deque[float] = deque()
        self.transport: asyncio.Transport
        self.times: list[float] = []
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, due: float) -> None:
        self._due.append(due)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.times.append(time.perf_counter() - self._due.popleft())
        self.errors += self._parser.get_status_code() != 200

    @property
    def waiting(self) -> int:
        return len(self._due)


async def _run(port: int, path: str, rate: float, seconds: float, count: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    made = [await loop.create_connection(_Connection, "127.0.0.1", port) for _ in range(count)]
    clients = [client for _, client in made]
    for warm in clients:
        warm.send(request, time.perf_counter())
    await asyncio.sleep(0.5)
    for client in clients:
        client.times.clear()
    began, sent = time.perf_counter(), 0
    while (now := time.perf_counter()) < began + seconds:
        while sent < (now - began) * rate:
            client = min(
                clients[sent % count], clients[(sent * 7 + 1) % count], key=lambda c: c.waiting
            )
            client.send(request, began + sent / rate)
            sent += 1
        await asyncio.sleep(0)
    for _ in range(500):
        if not any(client.waiting for client in clients):
            break
        await asyncio.sleep(0.01)
    times = sorted(t for client in clients for t in client.times)
    for client in clients:
        client.transport.close()
    return {
        "p50_ms": times[len(times) // 2] * 1_000,
        "p99_ms": times[len(times) * 99 // 100] * 1_000,
        "answered": len(times),
        "errors": sum(client.errors for client in clients) + sum(c.waiting for c in clients),
    }


if __name__ == "__main__":
    port, path, rate, seconds, connections = sys.argv[1:]
    print(
        json.dumps(uvloop.run(_run(int(port), path, float(rate), float(seconds), int(connections))))
    )
