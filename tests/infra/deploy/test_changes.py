"""What a change set would do, in the order of its dangers; and that data is not lost by default."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from deployment.changes import Action, Change, changes_of, check
from deployment.cli.tables import plan_table
from deployment.errors import DecisionNeededError


def item(
    action: str, name: str, type_: str, *, replacement: str | None = None, **more: Any
) -> dict[str, Any]:
    change = {"Action": action, "LogicalResourceId": name, "ResourceType": type_, **more}
    return {
        "Type": "Resource",
        "ResourceChange": change | ({"Replacement": replacement} if replacement else {}),
    }


def detail(name: str, before: str | None = None, after: str | None = None) -> dict[str, Any]:
    target = {"Attribute": "Properties", "Name": name}
    values = {"BeforeValue": before, "AfterValue": after} if before or after else {}
    return {"Target": target | values}


ITEMS = [
    item("Add", "New", "AWS::SQS::Queue"),
    item(
        "Modify",
        "Function",
        "AWS::Lambda::Function",
        replacement="False",
        Details=[detail("MemorySize", "512", "1024")],
    ),
    item(
        "Modify",
        "Database",
        "AWS::RDS::DBInstance",
        replacement="True",
        Details=[detail("Engine"), detail("Engine")],
    ),
    item("Modify", "Bucket", "AWS::S3::Bucket", replacement="Conditional"),
    item("Remove", "Old", "AWS::SQS::Queue"),
    item("Modify", "Role", "AWS::IAM::Role", replacement="True"),
]


def test_dangers_come_first() -> None:
    assert [(change.action, change.logical_id) for change in changes_of(ITEMS)] == [
        (Action.REPLACE, "Role"),
        (Action.REPLACE, "Database"),
        (Action.MAY_REPLACE, "Bucket"),
        (Action.REMOVE, "Old"),
        (Action.CHANGE, "Function"),
        (Action.ADD, "New"),
    ]


def test_properties_are_told_once_with_their_values() -> None:
    told = {change.logical_id: change.properties for change in changes_of(ITEMS)}
    assert told["Function"] == ("MemorySize: 512 → 1024",)
    assert told["Database"] == ("Engine",)


def test_what_could_lose_data_is_refused_unless_allowed() -> None:
    changes = changes_of(ITEMS)
    with pytest.raises(DecisionNeededError) as refused:
        check(changes, allow_replacement=False)
    for name in ("replace Database", "may replace Bucket", "remove Old"):
        assert name in refused.value.message
    assert "Role" not in refused.value.message
    assert "--allow-replacement" in refused.value.next_step
    check(changes, allow_replacement=True)
    check([change for change in changes if not change.loses_data], allow_replacement=False)


def shown(changes: list[Change], width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(plan_table(changes, wide=width >= 100))
    return captured.get()


@pytest.mark.parametrize("width", [40, 80, 160])
def test_replacements_are_red_at_every_width(width: int) -> None:
    text = shown(changes_of(ITEMS), width)
    [line] = [line for line in text.splitlines() if "Database" in line]
    assert "\x1b[1;31mreplace" in line
    assert "\x1b[32madd" in text


def test_names_are_plain_text() -> None:
    [change] = changes_of([item("Add", "[red]x[/red]", "AWS::SQS::Queue")])
    assert "[red]x[/red]" in shown([change], 120)


def test_many_additions_are_a_row_per_type() -> None:
    many = changes_of([item("Add", f"Queue{number}", "AWS::SQS::Queue") for number in range(30)])
    text = shown(many, 160)
    assert "SQS::Queue ×30" in text
    assert text.count("add") == 1
