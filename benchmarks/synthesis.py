"""Synthesis: every profile's template from cdk/, as `make check` compares them with those that are checked in."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Effort, Figure, command

_AT_MOST_SECONDS = 60.0
_ROOT = Path(__file__).parents[1]


def synthesis_seconds() -> float:
    """Of a process of its own, with the start of Node. Raises CalledProcessError when a template is out of date."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cdk.templates", "--check"], cwd=_ROOT, check=True)
    return time.perf_counter() - began


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """The median."""
    times = tuple(synthesis_seconds() for _ in range(effort.rounds))
    return [
        Figure(
            "synthesis of all profiles",
            statistics.median(times),
            "s",
            at_most=_AT_MOST_SECONDS,
            runs=times,
            note="cdk.templates --check",
        )
    ]


if __name__ == "__main__":
    command([measure], __doc__)
