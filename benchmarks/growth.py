"""Growth: every figure with many stored tasks, as a share of what it is with few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import end_to_end, http_post, latency, memory, start, submissions
from benchmarks.figures import Effort, Figure, Measure, command
from benchmarks.stored import home_with

_FEW = 10_000
_SHARE = 0.8
_MEASURES: Sequence[Measure] = (
    end_to_end.measure_alone,
    submissions.measure,
    http_post.measure,
    latency.measure,
    memory.measure,
    start.measure,
)
# What does not depend on the store.
_APART = ("disk:", "start: import", "start: the main names", "HTTP: the same without storing")


def measure(effort: Effort, stored: Path | None = None) -> list[Figure]:
    """``stored`` does not matter here. One measure after the other, each with few and with many."""
    figures = []
    few, many = home_with(_FEW), home_with(effort.stored)
    for take in _MEASURES:
        before = {figure.measure: figure for figure in take(effort, few)}
        figures += [
            _share(before[after.measure], after, effort.stored)
            for after in take(effort, many)
            if not after.measure.startswith(_APART)
        ]
    return figures


def _share(before: Figure, after: Figure, stored: int) -> Figure:
    """How good the later one is, 1 being as good: of rates the share, of times and sizes its inverse."""
    is_rate = after.unit.endswith("/s") or after.unit == "×"
    share = after.value / before.value if is_rate else before.value / max(after.value, 1e-9)
    note = f"{before.value:,.4g} → {after.value:,.4g} {after.unit}"
    counts = after.met is not None or after.measure.startswith("HTTP: POST")
    return Figure(
        f"growth to {stored:,}: {after.measure}",
        share,
        "×",
        at_least=_SHARE if counts else None,
        note=note,
    )


if __name__ == "__main__":
    command([measure], __doc__)
