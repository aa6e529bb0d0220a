"""`taskflow bench`: what this machine does with a no-op task, measured in a temporary store."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.options import Json

if TYPE_CHECKING:
    from taskflow.app import TaskFlow

_LATENCY_ROUNDS = 200
_LOOK_SECONDS = 0.01
_NO_OP = "bench_noop"


@dataclass(frozen=True, slots=True)
class Measurement:
    """Rates over all tasks; latency is submit → result on an idle system; CPU of engine and workers together."""

    tasks: int
    workers: int
    submitted_per_second: float
    finished_per_second: float
    latency_p50_ms: float
    latency_p95_ms: float
    cpu_us_per_task: float


def bench(
    tasks: Annotated[int, typer.Option(help="No-op tasks to run.", min=1)] = 10_000,
    workers: Annotated[int, typer.Option(help="Worker threads.", min=1)] = 4,
    json: Json = False,
) -> None:
    """Measure this machine: no-op tasks in a temporary store, everything durable."""
    from taskflow.cli import output

    result = measure(tasks, workers=workers)
    if json:
        output.print_json(asdict(result))
        return
    output.print_table(
        ["MEASURE", "VALUE"],
        [
            ("tasks", f"{result.tasks:,}"),
            ("workers", result.workers),
            ("submitted in bulk", f"{result.submitted_per_second:,.0f} tasks/s"),
            ("end to end", f"{result.finished_per_second:,.0f} tasks/s"),
            ("latency p50 (idle)", f"{result.latency_p50_ms:.2f} ms"),
            ("latency p95 (idle)", f"{result.latency_p95_ms:.2f} ms"),
            ("CPU per task", f"{result.cpu_us_per_task:.0f} µs"),
        ],
        empty="",
    )


def measure(tasks: int, *, workers: int) -> Measurement:
    """Run ``tasks`` no-op tasks with a small argument through a fresh store in a temporary directory.

    End to end is from the first submission until the last result is committed.
    """
    import tempfile
    from pathlib import Path

    from taskflow.app import TaskFlow
    from taskflow.core.registry import Registry, TaskOptions
    from taskflow.settings import load

    registry = Registry()
    registry.add(_noop, name=_NO_OP, declared=TaskOptions())
    with tempfile.TemporaryDirectory(prefix="taskflow-bench-") as directory:
        settings = load(
            home=Path(directory), database_url="", tasks=(), max_queue_size=0, num_workers=workers
        )
        with TaskFlow(settings, handlers=registry) as app:
            latencies = sorted(_latency_ms(app, i) for i in range(_LATENCY_ROUNDS))
            cpu, began = time.process_time(), time.perf_counter()
            app.submit_many((_NO_OP, (i,), {}) for i in range(tasks))
            submitted = time.perf_counter()
            while _completed(app) < tasks + _LATENCY_ROUNDS:
                time.sleep(_LOOK_SECONDS)
            finished = time.perf_counter()
            cpu = time.process_time() - cpu
    return Measurement(
        tasks=tasks,
        workers=workers,
        submitted_per_second=tasks / (submitted - began),
        finished_per_second=tasks / (finished - began),
        latency_p50_ms=latencies[len(latencies) // 2],
        latency_p95_ms=latencies[len(latencies) * 95 // 100],
        cpu_us_per_task=cpu / tasks * 1e6,
    )


def _noop(n: int) -> None:
    """Does nothing."""


def _latency_ms(app: TaskFlow, n: int) -> float:
    began = time.perf_counter()
    app.submit(_NO_OP, n).result(timeout=60)
    return (time.perf_counter() - began) * 1_000


def _completed(app: TaskFlow) -> int:
    return int(app.metrics()["queue"]["completed_count"])
