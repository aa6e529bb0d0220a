"""Requests per second that a server answers.

The client is wrk where it is installed (Debian: `apt-get install wrk`), else one of our own in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import httptools

from benchmarks.server import BODY

_SCRIPT = Path(__file__).with_name("post.lua")
PATH = "/api/v1/tasks"


class Load(NamedTuple):
    per_second: float
    p50_ms: float
    p99_ms: float
    client: str


def post(port: int, *, connections: int, seconds: float) -> Load:
    """POST the body over ``connections`` kept alive, each sending its next request once the last was answered.

    Raises RuntimeError when an answer was not 202.
    """
    if (wrk := shutil.which("wrk")) is not None:
        command = [wrk, "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "-s", str(_SCRIPT), f"http://127.0.0.1:{port}{PATH}",
                   "--", BODY.decode()]  # fmt: skip
    else:
        command = [
            sys.executable,
            "-m",
            "benchmarks.http_load",
            str(port),
            str(connections),
            str(seconds),
        ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    if answer["errors"]:
        raise RuntimeError(f"{answer['errors']} of {answer['requests']} requests failed")
    rate = answer["requests"] / answer["seconds"]
    return Load(
        rate, answer["p50_ms"], answer["p99_ms"], Path(command[0]).name if wrk else "own client"
    )


class _Connection(asyncio.Protocol):
    """One request at a time, on and on until ``ends``."""

    def __init__(self, request: bytes, ends: float) -> None:
        self._request = request
        self._ends = ends
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._sent = 0.0
        self.times: list[float] = []
        self.errors = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.times.append(time.perf_counter() - self._sent)
        self.errors += self._parser.get_status_code() != 202
        if time.perf_counter() < self._ends:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += exc is not None
        self.closed.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def _load(port: int, connections: int, seconds: float) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    began = time.perf_counter()
    made = [
        await loop.create_connection(
            lambda: _Connection(request, began + seconds), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    clients = [client for _, client in made]
    await asyncio.gather(*(client.closed for client in clients))
    times = sorted(t for client in clients for t in client.times)
    return {
        "requests": len(times),
        "errors": sum(client.errors for client in clients),
        "seconds": time.perf_counter() - began,
        "p50_ms": times[len(times) // 2] * 1_000,
        "p99_ms": times[len(times) * 99 // 100] * 1_000,
    }


if __name__ == "__main__":
    import uvloop

    result = uvloop.run(_load(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    print(json.dumps(result))
