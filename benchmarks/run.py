"""Runs a task file twice: in a plain one-thread loop, and in TaskFlow with a number of workers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import benchmarks.handlers  # noqa: F401 - registers the task
from benchmarks.comparison import Comparison
from benchmarks.engine import engine_settings, run_engine
from benchmarks.figures import machine
from benchmarks.one_thread import run_one_thread
from benchmarks.surroundings import home
from benchmarks.task_file import FileTask, read
from taskflow import TaskFlow


def compare(
    tasks: list[FileTask], *, workers: int, retry_base_seconds: float
) -> tuple[Comparison, Comparison]:
    """(one thread, engine): each with an empty store, one after the other."""
    with (
        home() as directory,
        TaskFlow(
            engine_settings(directory, workers=workers, retry_base_seconds=retry_base_seconds)
        ) as app,
    ):
        engine = run_engine(app, tasks)
        registry = app.runtime.registry
        app.stop_workers()
        with home() as other:
            baseline = run_one_thread(other, tasks, registry)
    return baseline, engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tasks", type=Path, required=True, help="file made by benchmarks.generate"
    )
    parser.add_argument(
        "--workers", type=int, default=4, help="worker threads of the engine (default: 4)"
    )
    parser.add_argument(
        "--retry-base-seconds", type=float, default=0.01, help="first backoff of the engine at most"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    options = parser.parse_args()
    try:
        tasks = read(options.tasks)
    except (OSError, ValueError) as exc:
        parser.error(str(exc))
    if not tasks or options.workers < 1:
        parser.error("needs at least one task and one worker")
    baseline, engine = compare(
        tasks, workers=options.workers, retry_base_seconds=options.retry_base_seconds
    )
    if options.json:
        speedup = baseline.seconds / engine.seconds
        sides = {side.name: side.summary() for side in (baseline, engine)}
        print(
            json.dumps(
                {"machine": machine(), "tasks": len(tasks), **sides, "speedup": round(speedup, 2)},
                indent=2,
            )
        )
    else:
        _show(baseline, engine)


def _show(baseline: Comparison, engine: Comparison) -> None:
    left, right = _flat(baseline.summary()), _flat(engine.summary())
    table = Table("", baseline.name, engine.name, "factor")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in left | right:
        ours, theirs = right.get(name, 0), left.get(name, 0)
        factor = f"{ours / theirs:.2f}" if theirs and name not in _COUNTS else ""
        table.add_row(name.replace("_", " "), f"{theirs:,}", f"{ours:,}", factor)
    Console().print(table)
    Console().print(
        f"TaskFlow takes {engine.seconds / baseline.seconds:.2f} of the one-thread time."
    )


_COUNTS = ("completed", "failed", "retries")


def _flat(summary: dict[str, Any]) -> dict[str, float]:
    by_priority = summary.pop("mean_ended_after_ms_by_priority")
    return {
        **summary,
        **{f"mean_ended_after_ms {name}": value for name, value in by_priority.items()},
    }


if __name__ == "__main__":
    main()
