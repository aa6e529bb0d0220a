"""The checked-in templates as data. `python -m cdk.templates --check` says whether they are what cdk/ says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cdk.profiles import PROFILES, Profile

STACK = "taskflow-test"
_DIRECTORY = Path(__file__).parents[3] / "cloudformation"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Template:
    profile: Profile
    body: Mapping[str, Any]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties by logical id, with everything that refers to something as text."""
        return {
            name: resolved(resource["Properties"])
            for name, resource in self.body["Resources"].items()
            if resource["Type"] == kind
        }

    def dashboard(self) -> dict[str, Any]:
        [properties] = self.of("AWS::CloudWatch::Dashboard").values()
        body: dict[str, Any] = json.loads(properties["DashboardBody"])
        return body


def resolved(value: Any) -> Any:
    """``Fn::If`` stays; references become ``<LogicalId>`` and ``<LogicalId.Attribute>``."""
    match value:
        case {"Ref": "AWS::StackName"}:
            return STACK
        case {"Ref": str(name)}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(str(resolved(part)) for part in parts)
        case dict():
            return {name: resolved(item) for name, item in value.items()}
        case list():
            return [resolved(item) for item in value]
    return value


@cache
def _read(name: str) -> Template:
    profile = PROFILES[name]
    with (_DIRECTORY / profile.template).open("rb") as file:
        return Template(profile, yaml.load(file, Loader=_Loader))  # a safe one


@pytest.fixture(params=list(PROFILES))
def template(request: pytest.FixtureRequest) -> Template:
    return _read(request.param)
