"""The checked-in template, reduced to what an emulator without Docker can run: queues, bucket, functions, mappings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_KEPT = {
    "AWS::IAM::Role",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::SQS::Queue",
}
_TEMPLATES = Path(__file__).parents[3] / "cloudformation"


def reduced(
    file: str,
    *,
    settings: Mapping[str, str],
    queue_properties: Mapping[str, Any],
    max_receives: int,
) -> dict[str, Any]:
    """``settings`` replace the functions' own of the same name. What a kept resource says of one that is not kept
    (an ARN in a policy, the database's address) becomes the word ``elsewhere``."""
    template = yaml.safe_load((_TEMPLATES / file).read_text())
    resources = {
        name: resource
        for name, resource in template["Resources"].items()
        if resource["Type"] in _KEPT
    }
    known = resources.keys() | template["Parameters"].keys()
    resources = _without(resources, known)
    for resource in resources.values():
        properties = resource["Properties"]
        resource.pop("DependsOn", None)
        match resource["Type"]:
            case "AWS::Lambda::Function":
                del properties["VpcConfig"]
                properties["Environment"]["Variables"] |= settings
            case "AWS::SQS::Queue":
                properties |= queue_properties
                if "RedrivePolicy" in properties:
                    properties["RedrivePolicy"]["maxReceiveCount"] = max_receives
    template["Resources"] = resources
    template["Outputs"] = {
        name: {"Value": {"Ref": name}}
        for name, resource in resources.items()
        if resource["Type"] != "AWS::Lambda::EventSourceMapping"
    }
    template.pop("Rules", None)
    return dict(template)


def _without(value: Any, known: set[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": str(name)} if name not in known and not name.startswith("AWS::"):
            return "elsewhere"
        case {"Fn::GetAtt": [str(name), *_]} if name not in known:
            return "elsewhere"
    return {key: _without(item, known) for key, item in value.items()}
