"""Start: `import taskflow`, and `taskflow dev` until its first task is accepted over HTTP. Stop: `taskflow dev` and
`taskflow worker` that have nothing to do."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Effort, Figure, command
from benchmarks.server import serving, taskflow_dev, taskflow_worker
from benchmarks.surroundings import home

_IMPORT_MS = 250
_ACCEPTS_SECONDS = 1.5
_STOPS_SECONDS = 1.0
_SETTLE_SECONDS = 1.0  # after which there is nothing left of the start
_IMPORTS = {
    "import taskflow": "import taskflow",
    "the main names": "from taskflow import TaskFlow, task",
}


def import_ms(statement: str, rounds: int) -> list[float]:
    """Wall time of an interpreter that runs ``statement``, less one that runs nothing; in turn."""
    times = []
    for _ in range(rounds):
        empty = _interpreter_ms("pass")
        times.append(_interpreter_ms(statement) - empty)
    return times


def _interpreter_ms(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - began) * 1_000


def accepts_seconds(stored: Path | None) -> tuple[float, float]:
    """First with the home as given (empty: the store is made), then once more with the same home."""
    with home(stored) as directory:
        with serving(taskflow_dev(), directory) as server:
            first = server.accepted_seconds
        with serving(taskflow_dev(), directory) as server:
            return first, server.accepted_seconds


def stops_seconds(command: list[str], *, accepts_tasks: bool) -> float:
    """SIGTERM to an idle process until it is gone."""
    with (
        home(None) as directory,
        serving(command, directory, accepts_tasks=accepts_tasks) as server,
    ):
        time.sleep(_SETTLE_SECONDS)
    return server.stopped_seconds


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """Medians."""
    figures = []
    for name, statement in _IMPORTS.items():
        times = tuple(import_ms(statement, effort.starts))
        figures.append(
            Figure(
                f"start: {name}",
                statistics.median(times),
                "ms",
                at_most=_IMPORT_MS,
                runs=times,
                note=statement,
            )
        )
    starts = [accepts_seconds(stored) for _ in range(effort.starts)]
    for name, values in zip(("a new home", "a known home"), zip(*starts, strict=True), strict=True):
        figures.append(
            Figure(
                f"start: taskflow dev accepts, {name}",
                statistics.median(values),
                "s",
                at_most=_ACCEPTS_SECONDS,
                runs=tuple(values),
            )
        )
    for name, started in (("dev", taskflow_dev()), ("worker", taskflow_worker())):
        times = tuple(
            stops_seconds(started, accepts_tasks=name == "dev") for _ in range(effort.starts)
        )
        figures.append(
            Figure(
                f"stop: taskflow {name}, idle",
                statistics.median(times),
                "s",
                at_most=_STOPS_SECONDS,
                runs=times,
                note="from SIGTERM until the process is gone",
            )
        )
    return figures


if __name__ == "__main__":
    command([measure], __doc__)
