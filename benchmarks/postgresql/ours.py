"""TaskFlow on PostgreSQL with the local queue: one process, worker threads, everything stored."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.embedded import finished, wait_for
from benchmarks.postgresql.databases import count
from benchmarks.runs import Run
from taskflow import TaskFlow
from taskflow.settings import load

_STATISTICS_SECONDS = 1.5  # a PostgreSQL process reports its counts at most once a second


class OurRun(NamedTuple):
    run: Run
    transactions: int  # committed while the tasks ran


def run_taskflow(url: str, tasks: int, workers: int) -> OurRun:
    """``tasks`` no-op tasks through `submit_many`, from the first submission until the last result is committed."""
    import benchmarks.handlers  # noqa: F401 - registers the task

    with tempfile.TemporaryDirectory(prefix="taskflow-benchmark-") as home:
        settings = load(
            home=Path(home), database_url=url, tasks=(), max_queue_size=0, num_workers=workers
        )
        with TaskFlow(settings) as app:
            app.submit("noop", 0).result(timeout=60)
            gc.collect()
            transactions = settled_transactions(url)
            before = finished(app)
            cpu, began = time.process_time(), time.perf_counter()
            app.submit_many(("noop", (n,), {}) for n in range(tasks))
            submitted = time.perf_counter()
            wait_for(app, before + tasks)
            ended, cpu = time.perf_counter(), time.process_time() - cpu
            transactions = settled_transactions(url) - transactions
    stored = count(
        url,
        "SELECT count(*) FROM tasks JOIN task_results ON task_results.tenant_id = tasks.tenant_id "
        "AND task_results.task_id = tasks.id WHERE tasks.status = 'completed' AND result IS NOT NULL",
    )
    assert stored == tasks + 1, f"{stored} of {tasks + 1} results are stored"
    return OurRun(Run(tasks, submitted - began, ended - began, cpu), transactions)


def settled_transactions(url: str) -> int:
    """Committed in this database so far, once all who committed have said so."""
    time.sleep(_STATISTICS_SECONDS)
    return count(url, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
