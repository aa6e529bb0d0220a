"""`POST /api/v1/tasks` over 32 kept-alive connections, beside the same application answering without storing."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benchmarks.disk import commits_per_second
from benchmarks.figures import Effort, Figure, command
from benchmarks.http_load import Load, post
from benchmarks.server import serving, taskflow_dev
from benchmarks.surroundings import home

_CONNECTIONS = 32
_SHARE = 0.7
_WARM_UP_SECONDS = 1
ANSWERING = [sys.executable, "-m", "benchmarks.answering"]
UNCHECKED = [*ANSWERING, "--unchecked"]
STORING = taskflow_dev("--workers", "0")  # the API process of a larger system; tasks wait


def load(command: list[str], seconds: float, stored: Path | None) -> tuple[Load, float]:
    """What the server answers, and bare one-row commits on the same disk before it."""
    with home(stored) as directory:
        commits = commits_per_second(directory, seconds=0.5)
        with serving(command, directory) as server:
            post(server.port, connections=_CONNECTIONS, seconds=_WARM_UP_SECONDS)
            return post(server.port, connections=_CONNECTIONS, seconds=seconds), commits


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """In turn."""
    durable, bare, unchecked, commits = [], [], [], []
    for _ in range(effort.rounds):
        loaded, rate = load(STORING, effort.seconds, stored)
        durable.append(loaded)
        commits.append(rate)
        bare.append(load(ANSWERING, effort.seconds, None)[0])
        unchecked.append(load(UNCHECKED, effort.seconds, None)[0])
    ratios, harder = (
        tuple(
            ours.per_second / theirs.per_second
            for ours, theirs in zip(durable, others, strict=True)
        )
        for others in (bare, unchecked)
    )

    def figure(name: str, loads: list[Load]) -> Figure:
        rates = tuple(load.per_second for load in loads)
        p50 = statistics.median(load.p50_ms for load in loads)
        p99 = statistics.median(load.p99_ms for load in loads)
        note = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; {loads[0].client}"
        return Figure(name, statistics.median(rates), "requests/s", runs=rates, note=note)

    return [
        Figure(
            "HTTP: storing against answering",
            statistics.median(ratios),
            "×",
            at_least=_SHARE,
            runs=ratios,
        ),
        Figure(
            "HTTP: storing against doing nothing but answering",
            statistics.median(harder),
            "×",
            runs=harder,
        ),
        figure("HTTP: POST /api/v1/tasks", durable),
        figure("HTTP: the same without storing", bare),
        figure("HTTP: the same without storing or checking arguments", unchecked),
        Figure(
            "disk: one-row commits", statistics.median(commits), "commits/s", runs=tuple(commits)
        ),
    ]


if __name__ == "__main__":
    command([measure], __doc__)
