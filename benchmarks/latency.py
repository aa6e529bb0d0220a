"""From submit to result on an idle embedded system: one task at a time, with a pause between."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.disk import commits_per_second
from benchmarks.embedded import running
from benchmarks.figures import Effort, Figure, command
from benchmarks.surroundings import fresh, home

_PAUSE_SECONDS = 0.005  # so that every thread is asleep again
_P50_MS, _P95_MS = 2.0, 5.0


def times_ms(directory: Path, rounds: int) -> list[float]:
    """Sorted."""
    with running(directory, workers=4) as app:
        times = []
        for n in range(rounds):
            time.sleep(_PAUSE_SECONDS)
            began = time.perf_counter()
            result = app.submit("noop", n).result(timeout=60)
            times.append((time.perf_counter() - began) * 1_000)
            assert result == n
    return sorted(times)


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """Quantiles are medians over the rounds' quantiles."""
    runs: list[list[float]] = []
    disk: list[float] = []
    for _ in range(effort.rounds):
        with home(stored) as directory:
            disk.append(commits_per_second(directory, seconds=0.5))
            runs.append(fresh(times_ms, directory, effort.latency_rounds))

    def figure(percent: int, at_most: float | None) -> Figure:
        values = tuple(times[len(times) * percent // 100] for times in runs)
        return Figure(
            f"latency: p{percent}", statistics.median(values), "ms", at_most=at_most, runs=values
        )

    commit = tuple(1_000 / rate for rate in disk)
    return [
        figure(50, _P50_MS),
        figure(95, _P95_MS),
        figure(99, None),
        Figure(
            "disk: one-row commit",
            statistics.median(commit),
            "ms",
            runs=commit,
            note="two of them in each latency",
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
