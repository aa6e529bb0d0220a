"""Reads the templates as they are checked in."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from cdk.profiles import PROFILES
from cdk.templates import DIRECTORY


@functools.cache
def template(profile: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (DIRECTORY / PROFILES[profile].template).read_bytes()
    loaded: dict[str, Any] = yaml.load(text, Loader=loader)
    return loaded


def resources(profile: str, type_: str) -> dict[str, dict[str, Any]]:
    """Logical id and resource, of one type."""
    found = template(profile)["Resources"]
    return {id_: found[id_] for id_ in found if found[id_]["Type"] == type_}


def properties(profile: str, logical_id: str) -> dict[str, Any]:
    found: dict[str, Any] = template(profile)["Resources"][logical_id].get("Properties", {})
    return found


def at(value: Any, path: str) -> Any:
    """``A.B.0.C``; a list of keys and values is looked at as a mapping. None: it is not there."""
    for step in path.split("."):
        if isinstance(value, list) and step.isdigit():
            value = value[int(step)] if int(step) < len(value) else None
        elif isinstance(value, list):
            value = _as_mapping(value).get(step)
        elif isinstance(value, Mapping):
            value = value.get(step)
        else:
            return None
    return value


def readable(value: Any) -> str:
    """A value with intrinsic functions, for a person: `${CriticalQueue.Arn}/*`."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(readable(part) for part in parts)
        case {"Fn::Select": [index, parts]}:
            return f"{readable(parts)}[{index}]"
        case {"Fn::Split": [separator, text]}:
            return f"{readable(text)} split at {separator}"
        case {"Fn::If": [condition, yes, no]}:
            return f"{readable(yes)} if {condition} else {readable(no)}"
        case dict():
            return ", ".join(f"{key}={readable(part)}" for key, part in value.items())
        case list():
            return ", ".join(map(readable, value))
    return str(value)


def statements(profile: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement of every policy: of roles, of what trusts them, of queues, buckets, topics."""
    for id_, resource in template(profile)["Resources"].items():
        for document in _documents(resource.get("Properties", {})):
            for statement in document["Statement"]:
                yield id_, statement


def listed(value: Any) -> list[Any]:
    """Of what may be one or several."""
    return value if isinstance(value, list) else [value]


def _documents(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("Statement"), list):
            yield value
        for part in value.values():
            yield from _documents(part)
    elif isinstance(value, list):
        for part in value:
            yield from _documents(part)


def _as_mapping(pairs: list[Any]) -> dict[str, Any]:
    for key, value in (("Key", "Value"), ("Name", "Value")):
        if all(isinstance(pair, dict) and key in pair for pair in pairs):
            return {str(pair[key]): pair.get(value) for pair in pairs}
    return {}
