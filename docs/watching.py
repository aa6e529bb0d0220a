"""The lists in docs/observability.md: saved queries, metrics, and the alarms of the template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from taskflow.observability.catalogue import METRICS
from taskflow.observability.queries import QUERIES

_SIGNS = {
    "GreaterThanThreshold": ">",
    "GreaterThanOrEqualToThreshold": "≥",
    "LessThanThreshold": "<",
}
_LIKE_CRITICAL = re.compile(r"(Long)?(High|Normal|Low)[A-Z]")


def queries() -> str:
    """With their text as CloudWatch has it."""
    lines: list[str] = []
    for query in QUERIES.values():
        lines += [
            "",
            f"### `{query.name}`",
            "",
            f"{query.title}.",
            "",
            "```text",
            query.saved_text,
            "```",
        ]
    return "\n".join(lines[1:])


def metrics() -> str:
    lines = ["| metric | unit | by | meaning |", "|---|---|---|---|"]
    for metric in METRICS:
        sets = " and ".join(", ".join(names) or "nothing" for names in metric.dimensions)
        lines.append(f"| `{metric.name}` | {metric.unit} | {sets} | {metric.meaning} |")
    return "\n".join(lines)


def alarms(template: Path) -> str:
    """Of the queues' alarms only those of one queue of each kind."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resources: dict[str, Any] = yaml.load(template.read_bytes(), Loader=loader)["Resources"]  # noqa: S506 - a safe one
    lines = ["| alarm | when | it says |", "|---|---|---|"]
    for name, resource in resources.items():
        alarm = resource["Properties"]
        if resource["Type"] != "AWS::CloudWatch::Alarm" or _LIKE_CRITICAL.match(name):
            continue
        if alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]:  # others scale
            lines.append(
                f"| `{name.removesuffix('Alarm')}` | {_when(alarm)} | {alarm['AlarmDescription']} |"
            )
    return "\n".join(lines)


def _when(alarm: dict[str, Any]) -> str:
    sign, threshold = _SIGNS[alarm["ComparisonOperator"]], alarm["Threshold"]
    periods = alarm["EvaluationPeriods"]
    if alarm.get("Period", 60) != 60:
        return f"{sign} {threshold:,} in {alarm['Period'] // 60} min"
    return f"{sign} {threshold:,} in {alarm.get('DatapointsToAlarm', periods)} of {periods} min"
