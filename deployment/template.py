"""The checked-in template of a profile, and the values its parameters get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from cdk.profiles import Profile
from deployment.errors import DeployError, UsageError
from deployment.stacks import StackState
from deployment.target import ROOT


@dataclass(frozen=True)
class Template:
    path: Path

    @classmethod
    def of(cls, profile: Profile, *, root: Path = ROOT) -> Template:
        return cls(root / "cloudformation" / profile.template)

    @cached_property
    def content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as exc:
            raise DeployError(
                f"The template {self.path} cannot be read ({exc.strerror}).",
                "Run deploy.py from a complete checkout, or write the templates with `python -m cdk.templates`.",
                code="template_missing",
            ) from exc

    @cached_property
    def _parsed(self) -> dict[str, Any]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        parsed: dict[str, Any] = yaml.load(self.content, Loader=loader)  # noqa: S506 - a safe loader
        return parsed

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        parameters: dict[str, dict[str, Any]] = self._parsed.get("Parameters", {})
        return parameters

    @property
    def alarm_metrics(self) -> int:
        """How many series all alarms watch: what they are billed by."""
        alarms = [
            resource["Properties"]
            for resource in self._parsed["Resources"].values()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        ]
        return sum(
            sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1
            for alarm in alarms
        )

    def values(self, chosen: Mapping[str, str], state: StackState | None) -> dict[str, str | None]:
        """For a change set: what is chosen, else what the stack has (None), else the template's default."""
        values: dict[str, str | None] = {
            name: value for name, value in chosen.items() if name in self.parameters
        }
        for name, described in self.parameters.items():
            if name in values:
                continue
            if state is not None and name in state.parameters:
                values[name] = None
            elif "Default" not in described:
                raise DeployError(
                    f"The template's parameter {name} has no value ({described.get('Description', 'no description')}).",
                    f"Add --set {name}=VALUE.",
                    code="parameter_missing",
                )
        return values


def settings_of(
    assignments: Sequence[str], template: Template, *, decided_here: Mapping[str, str]
) -> dict[str, str]:
    """``NAME=VALUE`` of `--set`. ``decided_here``: parameter → the flag that sets it. Raises UsageError."""
    values: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(
                f"--set {assignment} is not NAME=VALUE.",
                "Example: --set DatabaseInstanceClass=db.t4g.small",
            )
        if name in decided_here:
            raise UsageError(f"--set cannot set {name}.", decided_here[name])
        if name not in template.parameters:
            settable = sorted(set(template.parameters) - set(decided_here))
            raise UsageError(
                f"The template has no parameter {name!r}.", f"It has: {', '.join(settable)}."
            )
        values[name] = value
    return values
