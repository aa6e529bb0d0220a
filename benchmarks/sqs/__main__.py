"""SQS (MiniStack) with PostgreSQL: requests, transactions and CPU per task, latency, the adapter beside bare boto3."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.figures import Effort, Figure, command
from benchmarks.postgresql.databases import database, server
from benchmarks.sqs import adapter, tasks
from benchmarks.sqs.surroundings import emulator
from benchmarks.surroundings import fresh

_IDLE_SECONDS = 60.0
_ROUNDS_OF_ONE = 100


def measure(effort: Effort, _stored: Path | None = None) -> list[Figure]:
    """Half as many tasks as elsewhere: the emulator is slower than what is measured."""
    count = effort.tasks // 2
    with server() as server_url, emulator() as url:
        with database(server_url) as one:
            load = fresh(tasks.under_load, url, one, count, count=True)
        cpu = []
        for _ in range(effort.rounds):
            with database(server_url) as one:
                run = fresh(tasks.under_load, url, one, count, count=False)
                cpu.append(run.worker_cpu_seconds / count * 1_000)
        with database(server_url) as one:
            single = fresh(tasks.one_at_a_time, url, one, _ROUNDS_OF_ONE)
        with database(server_url) as one:
            idle = fresh(tasks.idle, url, one, _IDLE_SECONDS)
        with database(server_url) as one:
            started = tasks.median_ms(fresh(tasks.submit_to_start, one, _ROUNDS_OF_ONE))
        own = tasks.median_ms(fresh(tasks.send_to_receive, url, _ROUNDS_OF_ONE))
        ours, bare = [], []
        for _ in range(effort.rounds):
            ours.append(fresh(adapter.adapter_per_second, url, count))
            bare.append(fresh(adapter.bare_per_second, url, count))
    ratios = tuple(our / their for our, their in zip(ours, bare, strict=True))
    requests = ", ".join(f"{name} {n / count:.3f}" for name, n in load.requests.most_common())
    return [
        Figure(
            "SQS: requests per task, under load",
            sum(load.requests.values()) / count,
            "",
            at_most=0.35,
            note=requests,
        ),
        Figure("SQS: requests per task, one at a time", single, "", at_most=3),
        Figure("SQS: requests of an idle worker", idle, "/s", at_most=0.25),
        Figure(
            "SQS: transactions per task, under load", load.transactions / count, "", at_most=0.3
        ),
        Figure(
            "SQS: worker CPU per task",
            statistics.median(cpu),
            "ms",
            at_most=0.65,
            runs=tuple(cpu),
        ),
        Figure(
            "SQS: submit to start, beyond the emulator, p50",
            started - own,
            "ms",
            at_most=15,
            note=f"{started:.1f} ms, of it the emulator's {own:.1f}",
        ),
        Figure(
            "SQS: adapter against bare boto3",
            statistics.median(ratios),
            "×",
            at_least=0.9,
            runs=ratios,
        ),
        Figure("SQS: adapter", statistics.median(ours), "messages/s", runs=tuple(ours)),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
