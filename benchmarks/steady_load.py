"""Latency at a steady rate: requests are sent when they are due, whether or not earlier ones were answered.

`python -m benchmarks.steady_load PORT PATH RATE SECONDS CONNECTIONS` prints JSON. Latency counts from when a
request was due, so that a stall is felt by all who would have come meanwhile. Between requests it sleeps: what is
measured needs the processor.

Not h2load, which Debian has: its `--rps` has a timer of 10 ms a connection, sends what is due by then in one go (at
17,600/s six of ten milliseconds without a request, others with up to 114) and counts from when it was sent. Nor wrk,
which waits for answers. Of the 40 µs CPU a request costs here 33 are the kernel's, and would be in C.
"""

from __future__ import annotations

import ctypes
import gc
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from typing import NamedTuple

_WARM_UP_SECONDS = 0.5
_LAST_ANSWERS_SECONDS = 5.0
_MOST_BYTES = 65_536


class Latency(NamedTuple):
    p50_ms: float
    p99_ms: float
    answered: int


def measure(port: int, path: str, *, rate: float, seconds: float, connections: int) -> Latency:
    """In a process of its own. Raises RuntimeError when an answer was missing, not 200 or not the usual one."""
    numbers = (str(rate), str(seconds), str(connections))
    command = [sys.executable, "-m", "benchmarks.steady_load", str(port), path, *numbers]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    if answer.pop("errors"):
        raise RuntimeError("requests failed")
    return Latency(**answer)


def _run(port: int, path: str, rate: float, seconds: float, count: int) -> dict[str, float]:
    """A connection carries one request at a time; one that is due when none is free waits, and that counts."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    body = _body(port, path)
    events = select.epoll()
    connections: dict[int, socket.socket] = {}
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connections[connection.fileno()] = connection
        events.register(connection, select.EPOLLIN)
    free = deque(connections)
    due: dict[int, float] = {}  # when what it carries was
    times: list[tuple[float, float]] = []  # when a request was due, and how long it took
    sent = errors = 0
    total = int((_WARM_UP_SECONDS + seconds) * rate)
    ticks = _ticks(rate)
    events.register(ticks, select.EPOLLIN)
    began = now = time.perf_counter()
    end = began + total / rate + _LAST_ANSWERS_SECONDS
    while (sent < total or due) and now < end:
        happened = events.poll()
        now = time.perf_counter()
        for number, _ in happened:
            if number == ticks:
                os.read(ticks, 8)
                continue
            data = connections[number].recv(_MOST_BYTES)
            errors += not (data.startswith(b"HTTP/1.1 200 ") and data.endswith(body))
            asked = due.pop(number)
            times.append((asked, now - asked))
            free.append(number)
        while free and sent < total and (asked := began + sent / rate) <= now:
            number = free.popleft()
            due[number] = asked
            sent += 1
            connections[number].send(request)
    measured = sorted(took for asked, took in times if asked >= began + _WARM_UP_SECONDS)
    return {
        "p50_ms": measured[len(measured) // 2] * 1_000,
        "p99_ms": measured[len(measured) * 99 // 100] * 1_000,
        "answered": len(measured),
        "errors": errors + len(due) + total - sent,
    }


def _ticks(rate: float) -> int:
    """A descriptor that can be read ``rate`` times a second (timerfd_create(2); `os` has it from Python 3.13 on).
    Other sleep is rounded to milliseconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    interval = int(1e9 / rate)
    descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
    if descriptor < 0 or libc.timerfd_settime(
        descriptor, 0, (ctypes.c_long * 4)(0, interval, 0, interval), None
    ):
        raise OSError(ctypes.get_errno(), "timerfd")
    return descriptor


def _body(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


if __name__ == "__main__":
    port, path, rate, seconds, connections = sys.argv[1:]
    gc.disable()
    print(json.dumps(_run(int(port), path, float(rate), float(seconds), int(connections))))
