"""The balancer beside Nginx and HAProxy: requests/s, latency, TLS, memory.

`python -m benchmarks.balancer [--full] [--json]`. All in one run over the same instances, taking turns.
Needs wrk, nginx and haproxy (Debian packages).
"""

from __future__ import annotations

import math
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import steady_load
from benchmarks.figures import Effort, Figure, command
from benchmarks.memory import resident_bytes
from benchmarks.proxies import PROXIES, Proxy, Tls, api_instance, nginx, raw_instance, taskflow

_CONNECTIONS = 32
_LATENCY_ROUNDS = 9  # the machine's own stalls are most of a p99: some rounds have one more
_IDLE_CONNECTIONS = 2_000
_LARGE_BYTES = 2**26
_LARGE_TIMES = 16  # together a GiB
_MIB = 2**20
_RATE = re.compile(r"Requests/sec:\s+([0-9.]+)")
_FAILED = re.compile(r"(Non-2xx|Socket errors).*")
_SETTLE_SECONDS = 1.0


def wrk(port: int, path: str, *, seconds: float, secure: bool = False) -> float:
    """Requests per second over 32 connections kept alive. Raises RuntimeError when one failed."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is needed: apt-get install wrk")
    url = f"http{'s' if secure else ''}://127.0.0.1:{port}{path}"
    done = subprocess.run(
        [program, "-t1", f"-c{_CONNECTIONS}", f"-d{math.ceil(seconds)}s", url],
        check=True,
        capture_output=True,
        text=True,
    )
    if failed := _FAILED.search(done.stdout):
        raise RuntimeError(failed[0])
    found = _RATE.search(done.stdout)
    assert found is not None
    return float(found[1])


def _rates(
    proxies: Sequence[Proxy], path: str, effort: Effort, *, secure: bool = False
) -> dict[str, list[float]]:
    """They take turns, so that a busy minute hits them alike; the first turn only warms up."""
    rates: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
    for round_ in range(effort.rounds + 1):
        for proxy in proxies:
            rate = wrk(proxy.port, path, seconds=effort.seconds if round_ else 1, secure=secure)
            if round_:
                rates[proxy.name].append(rate)
    return rates


def _compared(
    what: str, rates: dict[str, list[float]], *, of_nginx: float, of_haproxy: float | None
) -> list[Figure]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    figures = [
        Figure(f"{what}: {name}", medians[name], "/s", runs=tuple(values))
        for name, values in rates.items()
    ]
    ours = medians["taskflow"]
    figures.append(Figure(f"{what}: of nginx's", ours / medians["nginx"], "×", at_least=of_nginx))
    if of_haproxy is not None:
        figures.append(
            Figure(f"{what}: of HAProxy's", ours / medians["haproxy"], "×", at_least=of_haproxy)
        )
    return figures


def _latencies(directory: Path, rate: float, effort: Effort) -> list[Figure]:
    """Added to what an instance itself takes, at the same rate: half of what the balancer reaches at most.

    The proxy has a processor to itself, instances and load share the others: where all share all, what is measured is
    whom the kernel lets onto one when.
    """
    processors = os.sched_getaffinity(0)
    own = {min(processors)}
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, processors)
        os.sched_setaffinity(0, processors - own or own)  # those who start now inherit it
        raw = [stack.enter_context(raw_instance()) for _ in range(2)]
        targets = {"instance": raw[0]}
        for start in (taskflow, nginx):
            proxy = stack.enter_context(start(directory, raw))
            os.sched_setaffinity(proxy.pid, own)
            targets[proxy.name] = proxy.port
        found: dict[str, list[steady_load.Latency]] = {name: [] for name in targets}
        for _ in range(_LATENCY_ROUNDS):
            for name, port in targets.items():
                found[name].append(
                    steady_load.measure(
                        port, "/", rate=rate, seconds=effort.seconds, connections=_CONNECTIONS
                    )
                )
    figures = []
    for percentile in ("p50_ms", "p99_ms"):
        times = {name: [getattr(one, percentile) for one in found[name]] for name in targets}
        alone = statistics.median(times["instance"])
        added = {
            name: tuple(value - alone for value in times[name]) for name in ("taskflow", "nginx")
        }
        medians = {name: statistics.median(values) for name, values in added.items()}
        label = f"added latency {percentile[:3]} at {rate:,.0f}/s"
        figures += [
            Figure(f"{label}: {name}", medians[name], "ms", runs=values)
            for name, values in added.items()
        ]
        figures.append(
            Figure(f"{label}: of nginx's", medians["taskflow"] / medians["nginx"], "×", at_most=1.5)
        )
    return figures


def _idle_bytes(proxy: Proxy) -> float:
    """Growth per connection that has made a request and waits."""
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\n\r\n"
    before, _ = resident_bytes(proxy.pid)
    with ExitStack() as stack:
        for _ in range(_IDLE_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port)))
            connection.sendall(request)
            connection.recv(4_096)
        after, _ = resident_bytes(proxy.pid)
    return (after - before) / _IDLE_CONNECTIONS


def _growth_by_bodies(proxy: Proxy) -> int:
    """Growth while a GiB passes."""
    before, _ = resident_bytes(proxy.pid)
    most = before
    buffer = bytearray(_MIB)
    for _ in range(_LARGE_TIMES):
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
            connection.sendall(
                b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % _LARGE_BYTES
            )
            while connection.recv_into(buffer):
                pass
            most = max(most, resident_bytes(proxy.pid)[0])
    return most - before


def _certificate(directory: Path) -> Tls:
    import trustme

    made = trustme.CA().issue_cert("localhost", "127.0.0.1")
    tls = Tls(directory / "certificate.pem", directory / "key.pem")
    tls.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(tls.key)
    return tls


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    figures: list[Figure] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskflow-")))
        raw = [stack.enter_context(raw_instance()) for _ in range(2)]
        with ExitStack() as proxies:
            started = [proxies.enter_context(start(directory, raw)) for start in PROXIES.values()]
            rates = _rates(started, "/", effort)
            figures += _compared("2 raw instances", rates, of_nginx=0.75, of_haproxy=0.8)
        half = statistics.median(rates["taskflow"]) / 2
        figures += _latencies(directory, half, effort)
        tls = _certificate(directory)
        with ExitStack() as proxies:
            started = [
                proxies.enter_context(start(directory, raw, tls)) for start in PROXIES.values()
            ]
            rates = _rates(started, "/", effort, secure=True)
            figures += _compared("TLS, 2 raw instances", rates, of_nginx=0.6, of_haproxy=None)
        with taskflow(directory, raw) as alone:
            time.sleep(_SETTLE_SECONDS)
            rss, pss = resident_bytes(alone.pid)
            note = f"PSS {pss / _MIB:.0f} MiB"
            figures.append(Figure("memory at rest", rss / _MIB, "MiB", at_most=40, note=note))
            idle = _idle_bytes(alone) / 1_024
            figures.append(Figure("memory per idle connection", idle, "KiB", at_most=20))
            growth = _growth_by_bodies(alone) / _MIB
            figures.append(Figure("growth while 1 GiB passes", growth, "MiB", at_most=16))
        apis = [stack.enter_context(api_instance(directory / "home")) for _ in range(2)]
        with ExitStack() as proxies:
            started = [proxies.enter_context(start(directory, apis)) for start in PROXIES.values()]
            rates = _rates(started, "/health", effort)
            figures += _compared("2 API instances", rates, of_nginx=0.95, of_haproxy=None)
    return figures


if __name__ == "__main__":
    command([measure], __doc__)
