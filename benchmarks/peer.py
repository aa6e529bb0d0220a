"""Huey on SQLite with the same promise: WAL, `synchronous=FULL`, results stored, worker threads in this process."""

from __future__ import annotations

import time
from pathlib import Path

from huey import Huey, SqliteHuey

from benchmarks.runs import Run

_LOOK_SECONDS = 0.05
_TIMEOUT_SECONDS = 300.0


def run_huey(directory: Path, tasks: int, workers: int) -> Run:
    """On a SQLite file in ``directory``."""
    return run_on(
        SqliteHuey(
            "benchmark",
            filename=str(directory / "huey.db"),
            fsync=True,
            journal_mode="wal",
            timeout=60,
        ),
        tasks,
        workers,
    )


def run_on(huey: Huey, tasks: int, workers: int) -> Run:
    """``tasks`` no-op tasks, from the first submission until the last result is stored."""

    @huey.task()  # type: ignore[untyped-decorator]
    def noop(n: int) -> int:
        return n

    consumer = huey.create_consumer(workers=workers, periodic=False, check_worker_health=False)
    consumer.start()
    try:
        noop(0)(blocking=True, timeout=60)
        cpu, began = time.process_time(), time.perf_counter()
        for n in range(tasks):
            noop(n)
        submitted = time.perf_counter()
        while huey.storage.result_store_size() < tasks:
            if time.perf_counter() - began > _TIMEOUT_SECONDS:
                raise TimeoutError(f"{huey.storage.result_store_size()} of {tasks} tasks finished")
            time.sleep(_LOOK_SECONDS)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
    finally:
        consumer.stop(graceful=True)
    return Run(tasks, submitted - began, ended - began, cpu)
