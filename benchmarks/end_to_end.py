"""End to end: tasks submitted in bulk until the last result is on disk, beside Huey on SQLite; CPU per task."""

from __future__ import annotations

import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path

from benchmarks.disk import commits_per_second
from benchmarks.embedded import finished, running, wait_for
from benchmarks.figures import Effort, Figure, command
from benchmarks.peer import run_huey
from benchmarks.runs import Run
from benchmarks.surroundings import fresh, home

WORKERS = 4
_TASKS_PER_SECOND = 6_000
_TIMES_HUEY = 3.5
_CPU_US = 180


def run_taskflow(directory: Path, tasks: int, workers: int) -> Run:
    """``tasks`` no-op tasks through `submit_many`, from the first submission until the last result is committed."""
    with running(directory, workers=workers) as app:
        before = finished(app)
        cpu, began = time.process_time(), time.perf_counter()
        handles = app.submit_many(("noop", (n,), {}) for n in range(tasks))
        submitted = time.perf_counter()
        wait_for(app, before + tasks)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        first = handles[0].id
        database = app.runtime.settings.home / "taskflow.db"
    _check(database, first, tasks)
    return Run(tasks, submitted - began, ended - began, cpu)


def _check(database: Path, first_id: str, tasks: int) -> None:
    """That the results really are in the file, read by another connection."""
    with closing(sqlite3.connect(database)) as connection:
        statement = (
            "SELECT count(*) FROM tasks JOIN task_results ON task_results.tenant_id = tasks.tenant_id "
            "AND task_results.task_id = tasks.id "
            "WHERE tasks.id >= ? AND tasks.status = 'completed' AND result IS NOT NULL"
        )
        [stored] = connection.execute(statement, (first_id,)).fetchone()
    assert stored == tasks, f"{stored} of {tasks} results are on disk"


def taskflow_figures(runs: list[Run]) -> list[Figure]:
    rates = tuple(run.per_second for run in runs)
    cpu = tuple(run.cpu_us_per_task for run in runs)
    bulk = tuple(run.submitted_per_second for run in runs)
    return [
        Figure(
            "end to end",
            statistics.median(rates),
            "tasks/s",
            at_least=_TASKS_PER_SECOND,
            runs=rates,
        ),
        Figure(
            "end to end: submitted in bulk",
            statistics.median(bulk),
            "tasks/s",
            runs=bulk,
            note="workers running",
        ),
        Figure("CPU per task", statistics.median(cpu), "µs", at_most=_CPU_US, runs=cpu),
    ]


def measure_alone(effort: Effort, stored: Path | None) -> list[Figure]:
    """Without the peer."""
    runs = []
    for _ in range(effort.rounds):
        with home(stored) as directory:
            runs.append(fresh(run_taskflow, directory, effort.tasks, WORKERS))
    return taskflow_figures(runs)


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """In turn, so that a change of the machine's mood meets both."""
    ours: list[Run] = []
    theirs: list[Run] = []
    disk: list[float] = []
    for _ in range(effort.rounds):
        with home(stored) as directory:
            ours.append(fresh(run_taskflow, directory, effort.tasks, WORKERS))
        with home() as directory:
            theirs.append(fresh(run_huey, directory, effort.tasks, WORKERS))
            disk.append(commits_per_second(directory, seconds=0.5))
    rates = tuple(run.per_second for run in theirs)
    ratios = tuple(
        our.per_second / their.per_second for our, their in zip(ours, theirs, strict=True)
    )
    end_to_end, *rest = taskflow_figures(ours)
    return [
        end_to_end,
        Figure("end to end: Huey, SQLite FULL", statistics.median(rates), "tasks/s", runs=rates),
        Figure(
            "end to end: against Huey",
            statistics.median(ratios),
            "×",
            at_least=_TIMES_HUEY,
            runs=ratios,
        ),
        *rest,
        Figure("CPU per task: Huey", statistics.median(r.cpu_us_per_task for r in theirs), "µs"),
        Figure("disk: one-row commits", statistics.median(disk), "commits/s", runs=tuple(disk)),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
