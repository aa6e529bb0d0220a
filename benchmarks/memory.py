"""Memory: `taskflow dev` at rest, and what each waiting task adds."""

from __future__ import annotations

import gc
import statistics
import time
from pathlib import Path

from benchmarks.embedded import running
from benchmarks.figures import Effort, Figure, command
from benchmarks.server import serving, taskflow_dev
from benchmarks.surroundings import fresh, home

_MIB = 2**20
_AT_REST_MIB = 90
_WAITING_BYTES = 1_024
_SETTLE_SECONDS = 2.0
_WARM_UP_TASKS = 20_000  # caches of the store and the allocator are full by then


def resident_bytes(pid: int | str = "self") -> tuple[int, int]:
    """(RSS, PSS): everything the process has in memory; with shared pages divided among their users."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("Rss", "Pss"):
            values[name] = int(rest.split()[0]) * 1_024
    return values["Rss"], values["Pss"]


def at_rest(stored: Path | None) -> tuple[int, int]:
    """Of `taskflow dev` with four workers, some time after its first task."""
    with home(stored) as directory, serving(taskflow_dev(), directory) as server:
        time.sleep(_SETTLE_SECONDS)
        return resident_bytes(server.pid)


def bytes_per_waiting_task(directory: Path, tasks: int) -> float:
    """Growth of the process per task that waits in queue and store, submitted in bulk; workers are off."""
    with running(directory, workers=4) as app:
        app.stop_workers()
        app.submit_many(("noop", (n,), {}) for n in range(_WARM_UP_TASKS))
        gc.collect()
        before, _ = resident_bytes()
        for _ in range(tasks // 1_000):
            app.submit_many(("noop", (n,), {}) for n in range(1_000))
        gc.collect()
        after, _ = resident_bytes()
        depths = app.runtime.queue.depths()
        assert sum(depth.ready for depth in depths.values()) >= tasks
        return (after - before) / tasks


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """At rest: the median of the rounds; per waiting task: one run."""
    rests = [at_rest(stored) for _ in range(effort.rounds)]
    rss = tuple(rest[0] / _MIB for rest in rests)
    pss = tuple(rest[1] / _MIB for rest in rests)
    with home(stored) as directory:
        each = fresh(bytes_per_waiting_task, directory, effort.waiting_tasks)
    return [
        Figure(
            "memory: process at rest, RSS",
            statistics.median(rss),
            "MiB",
            at_most=_AT_REST_MIB,
            runs=rss,
        ),
        Figure("memory: process at rest, PSS", statistics.median(pss), "MiB", runs=pss),
        Figure(
            "memory: waiting task",
            each,
            "bytes",
            at_most=_WAITING_BYTES,
            note=f"over {effort.waiting_tasks:,} tasks",
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
