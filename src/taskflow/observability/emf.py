"""CloudWatch's embedded metric format: metrics as JSON log lines, from which CloudWatch Logs makes metrics.

No permission, no request, no wait. Limits: CloudWatch User Guide, "Specification: embedded metric format".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from taskflow.observability.catalogue import Metric

MOST_VALUES = 100  # of one metric in a line
MOST_METRICS = 100  # in a line
MOST_VALUE_CHARS = 1_024  # of a dimension

Values = Mapping[Metric, float | Sequence[float]]


def lines(
    values: Values, *, namespace: str, dimensions: Mapping[str, str], timestamp_ms: int
) -> list[str]:
    """As few lines as hold all. ``dimensions`` has a value for each that one of the metrics wants."""
    names = list(values)
    return [
        _line({name: values[name] for name in names[start : start + MOST_METRICS]},
              namespace, dimensions, timestamp_ms)
        for start in range(0, len(names), MOST_METRICS)
    ]  # fmt: skip


def _line(values: Values, namespace: str, dimensions: Mapping[str, str], timestamp_ms: int) -> str:
    by_sets: dict[tuple[tuple[str, ...], ...], list[Metric]] = {}
    for metric in values:
        by_sets.setdefault(metric.dimensions, []).append(metric)
    wanted = {name for sets in by_sets for names in sets for name in names}
    document: dict[str, Any] = {
        "_aws": {
            "Timestamp": timestamp_ms,
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [list(names) for names in sets],
                    "Metrics": [{"Name": m.name, "Unit": m.unit} for m in metrics],
                }
                for sets, metrics in by_sets.items()
            ],
        }
    }
    for name in sorted(wanted):
        document[name] = dimensions[name].encode("ascii", "replace").decode()[:MOST_VALUE_CHARS]
    for metric, value in values.items():
        document[metric.name] = value if isinstance(value, int | float) else list(value)
    return orjson.dumps(document).decode()
