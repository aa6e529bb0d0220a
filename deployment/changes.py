"""What a change set would do, and which of it could lose data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deployment.errors import DecisionNeededError

STATEFUL_TYPES = frozenset(
    {
        "AWS::RDS::DBInstance",
        "AWS::RDS::DBCluster",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::SecretsManager::Secret",
        "AWS::KMS::Key",
        "AWS::EFS::FileSystem",
        "AWS::DynamoDB::Table",
    }
)
_LONGEST_VALUE = 60


class Action(StrEnum):
    """In the order in which a reader should meet them."""

    REPLACE = "replace"
    MAY_REPLACE = (
        "may replace"  # depends on values that CloudFormation knows only when it gets there
    )
    REMOVE = "remove"
    CHANGE = "change"
    ADD = "add"

    @property
    def is_destructive(self) -> bool:
        return self in {Action.REPLACE, Action.MAY_REPLACE, Action.REMOVE}


@dataclass(frozen=True)
class Change:
    action: Action
    logical_id: str
    resource_type: str
    physical_id: str
    properties: tuple[
        str, ...
    ]  # `MemorySize: 512 → 1024`, or the name alone where values are unknown

    @property
    def loses_data(self) -> bool:
        return self.action.is_destructive and self.resource_type in STATEFUL_TYPES


def changes_of(items: Sequence[Mapping[str, Any]]) -> list[Change]:
    """From DescribeChangeSet's `Changes`: what deserves attention first."""
    found = [_change(item["ResourceChange"]) for item in items if "ResourceChange" in item]
    order = list(Action)
    return sorted(
        found,
        key=lambda change: (order.index(change.action), change.resource_type, change.logical_id),
    )


def check(changes: Sequence[Change], *, allow_replacement: bool) -> None:
    """Raises DecisionNeededError when data could be lost and nobody said that it may."""
    losing = [change for change in changes if change.loses_data]
    if not losing or allow_replacement:
        return
    named = "; ".join(
        f"{change.action} {change.logical_id} ({change.resource_type})" for change in losing
    )
    raise DecisionNeededError(
        f"These changes could lose data, so nothing was changed: {named}.",
        "Undo the setting that causes it (the table says which property); if the data may go, or has been moved, add "
        "--allow-replacement.",
        code="replacement_refused",
    )


def _change(change: Mapping[str, Any]) -> Change:
    return Change(
        action=_action(change),
        logical_id=change["LogicalResourceId"],
        resource_type=change["ResourceType"],
        physical_id=change.get("PhysicalResourceId", ""),
        properties=tuple(
            dict.fromkeys(
                _property(detail) for detail in change.get("Details", []) if detail.get("Target")
            )
        ),
    )


def _action(change: Mapping[str, Any]) -> Action:
    match change.get("Action"), change.get("Replacement"):
        case "Add", _:
            return Action.ADD
        case "Remove", _:
            return Action.REMOVE
        case _, "True":
            return Action.REPLACE
        case _, "Conditional":
            return Action.MAY_REPLACE
        case _:
            return Action.CHANGE


def _property(detail: Mapping[str, Any]) -> str:
    target = detail["Target"]
    name = target.get("Name") or target.get("Attribute", "")
    before, after = target.get("BeforeValue"), target.get("AfterValue")
    if before is None and after is None:
        return str(name)
    return f"{name}: {_short(before)} → {_short(after)}"


def _short(value: object) -> str:
    text = "nothing" if value is None else " ".join(str(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
