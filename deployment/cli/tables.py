"""Tables of the command line. What AWS or a template says is plain text, never Rich's markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from deployment.changes import Action, Change
from deployment.status import Status

_ACTION_STYLES = {
    Action.REPLACE: "bold red",
    Action.MAY_REPLACE: "bold red",
    Action.REMOVE: "red",
    Action.CHANGE: "yellow",
    Action.ADD: "green",
}
_MOST_PROPERTIES = 6
_MOST_NAMES = 4  # of a type, where many resources are added
_MOST_ADDITIONS = 20  # more of them are one row per type: a new stack has 150


def plan_table(changes: Sequence[Change], *, wide: bool) -> Table:
    """Narrow: without the type, whose last word the name mostly has."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("ACTION", no_wrap=True)
    table.add_column("RESOURCE", overflow="fold")
    if wide:
        table.add_column("TYPE", overflow="fold", style="dim")
    table.add_column("WHAT", overflow="fold")
    additions = [change for change in changes if change.action is Action.ADD]
    are_many = len(additions) > _MOST_ADDITIONS
    for change in changes:
        if are_many and change.action is Action.ADD:
            continue
        row = [Text(change.action, style=_ACTION_STYLES[change.action]), Text(change.logical_id)]
        if wide:
            row.append(Text(change.resource_type.removeprefix("AWS::")))
        row.append(_what(change))
        table.add_row(*row)
    if are_many:
        for type_, names in _by_type(additions).items():
            row = [Text(Action.ADD, style=_ACTION_STYLES[Action.ADD]), Text(_shortened(names))]
            if wide:
                row.append(Text(f"{type_.removeprefix('AWS::')} ×{len(names)}"))
            table.add_row(*row, Text(""))
    return table


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _by_type(changes: Sequence[Change]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in changes:
        found.setdefault(change.resource_type, []).append(change.logical_id)
    return found


def queue_table(status: Status) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("QUEUE", overflow="fold")
    for column in ("WAITING", "RUNNING", "DELAYED"):
        table.add_column(column, justify="right")
    for queue in status.queues:
        is_bad = queue.name.endswith("-dead") and queue.waiting > 0
        numbers = [str(number) for number in (queue.waiting, queue.running, queue.delayed)]
        table.add_row(
            Text(queue.name), *(Text(n, style="bold red" if is_bad else "") for n in numbers)
        )
    return table


def facts(values: Mapping[str, str | Text]) -> Table:
    """Names and values, one below the other."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _what(change: Change) -> Text:
    shown = change.properties[:_MOST_PROPERTIES]
    text = Text("; ".join(shown))
    if len(change.properties) > len(shown):
        text.append(f"; and {len(change.properties) - len(shown)} more", style="dim")
    if change.loses_data:
        text.append("  holds data", style="bold red")
    return text
