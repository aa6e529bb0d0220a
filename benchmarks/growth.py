"""Growth: every figure with many stored tasks, as a share of what it is with few."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import end_to_end, http_post, latency, memory, start, submissions
from benchmarks.figures import Effort, Figure, Measure, command, number
from benchmarks.stored import home_with

_FEW = 10_000
_SHARE = 0.8
_EMBEDDED: Sequence[Measure] = (end_to_end.measure_alone, submissions.measure, latency.measure)
_OTHERS: Sequence[Measure] = (http_post.measure, memory.measure, start.measure)
# What does not depend on the store.
_APART = ("disk:", "start: import", "start: the main names", "HTTP: the same without storing")


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """``stored`` does not matter here. Each measure with few and with many in turn: medians of the pairs' shares."""
    few, many = home_with(_FEW), home_with(effort.stored)
    once = replace(effort, rounds=1, starts=1)
    figures = []
    for take in [*_EMBEDDED, *(_OTHERS if effort.growth_of_all else ())]:
        pairs: dict[str, list[tuple[Figure, Figure]]] = {}
        for _ in range(effort.growth_rounds):
            before = {figure.measure: figure for figure in take(once, few)}
            for after in take(once, many):
                if not after.measure.startswith(_APART):
                    pairs.setdefault(after.measure, []).append((before[after.measure], after))
        figures += [_share(name, several, effort.stored) for name, several in pairs.items()]
    return figures


def _share(name: str, pairs: Sequence[tuple[Figure, Figure]], stored: int) -> Figure:
    """How good the later one is, 1 being as good: of rates the share, of times and sizes its inverse."""
    _, sample = pairs[0]
    is_rate = sample.unit.endswith("/s") or sample.unit == "×"
    shares = tuple(
        after.value / before.value if is_rate else before.value / max(after.value, 1e-9)
        for before, after in pairs
    )
    before, after = (
        statistics.median(figure.value for figure in side) for side in zip(*pairs, strict=True)
    )
    counts = sample.met is not None or name.startswith("HTTP: POST")
    return Figure(
        f"growth to {stored:,}: {name}",
        statistics.median(shares),
        "×",
        at_least=_SHARE if counts else None,
        runs=shares,
        note=f"{number(before)} → {number(after)} {sample.unit}",
    )


if __name__ == "__main__":
    command([measure], __doc__)
