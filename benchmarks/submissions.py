"""Submissions answered per second, one by one, from 1 and 8 threads, beside bare one-row commits."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

from benchmarks.disk import commits_per_second
from benchmarks.embedded import running
from benchmarks.figures import Effort, Figure, command
from benchmarks.surroundings import fresh, home

_TARGETS = {1: 4_000, 8: 10_000}


def answered_per_second(directory: Path, threads: int, seconds: float) -> float:
    """Each thread submits its next task once the last one was answered. Workers are off: the tasks wait."""
    with running(directory, workers=4) as app:
        app.stop_workers()
        counts = [0] * threads
        start = threading.Barrier(threads + 1)
        ends = time.perf_counter() + 3600.0

        def submit(index: int) -> None:
            start.wait()
            n = 0
            while time.perf_counter() < ends:
                app.submit("noop", n)
                n += 1
            counts[index] = n

        submitting = [threading.Thread(target=submit, args=(index,)) for index in range(threads)]
        for thread in submitting:
            thread.start()
        began = time.perf_counter()
        ends = began + seconds
        start.wait()
        for thread in submitting:
            thread.join()
        return sum(counts) / (time.perf_counter() - began)


def rates(effort: Effort, stored: Path | None, threads: int) -> tuple[list[float], list[float]]:
    """Submissions per second, and the bare commits per second beside each of them."""
    answered, bare = [], []
    for _ in range(effort.rounds):
        with home(stored) as directory:
            bare.append(commits_per_second(directory, seconds=0.5))
            answered.append(fresh(answered_per_second, directory, threads, effort.seconds / 2))
    return answered, bare


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """With ``stored``, on a copy of that home."""
    figures = []
    commits: list[float] = []
    for threads, target in _TARGETS.items():
        answered, bare = rates(effort, stored, threads)
        commits += bare
        name = f"submissions: {threads} thread{'s' if threads > 1 else ''}"
        ratios = tuple(ours / theirs for ours, theirs in zip(answered, bare, strict=True))
        figures += [
            Figure(
                name, statistics.median(answered), "tasks/s", at_least=target, runs=tuple(answered)
            ),
            Figure(f"{name}, against bare commits", statistics.median(ratios), "×", runs=ratios),
        ]
    return [
        *figures,
        Figure(
            "disk: one-row commits", statistics.median(commits), "commits/s", runs=tuple(commits)
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
