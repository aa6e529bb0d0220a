"""How answers look: tables and colours for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from taskflow.core.task import Task

_PIPE_WIDTH = 10_000
_WIDE_COLUMNS = 120  # of a screen with room for what tables say beside an id, which takes 36
_WHOLE = frozenset(
    {"ID", "STATUS", "PRIORITY", "ATTEMPT", "CREATED", "LAST", "FINGERPRINT", "EXAMPLE"}
)
_SHOWN = "\n\u200c\u200d"  # of what is not printable: the joiners are part of emoji and of several scripts
_COLOURS = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "expired": "yellow",
    "running": "cyan",
    "retrying": "magenta",
}


def print_json(value: Any) -> None:
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    print(orjson.dumps(value, option=options, default=_plain).decode(), flush=True)


def print_json_line(value: Any) -> None:
    import orjson

    print(orjson.dumps(value, option=orjson.OPT_UTC_Z, default=_plain).decode(), flush=True)


def console() -> Console:
    from rich.console import Console

    # What reads a pipe does not want lines folded to the width of a screen.
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def show(renderable: Any) -> None:
    """Print it; into a pipe without the blanks that fill up columns."""
    there = console()
    if sys.stdout.isatty():
        there.print(renderable)
        return
    with there.capture() as captured:
        there.print(renderable)
    for line in captured.get().splitlines():
        print(line.rstrip())


def is_narrow() -> bool:
    """Whether somebody looks at a screen that is too narrow for wide tables."""
    return sys.stdout.isatty() and console().width < _WIDE_COLUMNS


def note(text: str) -> None:
    """Something beside the answer: stderr, so that pipes get the answer alone."""
    print(text, file=sys.stderr)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    empty: str,
    below: Sequence[str] | None = None,
) -> None:
    """Values are plain text, except Rich's own objects. ``below[i]`` is a line of its own under row i, if it says
    something; rows are one line each then."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        overflow: Any = "fold" if below is None else "ellipsis"
        table.add_column(column, overflow=overflow, no_wrap=column in _WHOLE)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else _text(cell) for cell in row))
    if not table.row_count:
        note(empty)
    elif below is None:
        show(table)
    else:
        _show_with(table, below)


def _show_with(table: Any, below: Sequence[str]) -> None:
    there = console()
    with there.capture() as captured:
        there.print(table)
    header, *rows = captured.get().splitlines()
    print(header)
    for row, text in zip(rows, below, strict=True):
        print(row)
        if text:
            there.print(_text(f"  {text}"), style="dim", no_wrap=True, overflow="ellipsis")


def coloured(status: str) -> Any:
    from rich.text import Text

    return Text(status, style=_COLOURS.get(status, ""))


def ago(moment: datetime | None) -> str:
    """``3 min ago``, or ``in 2 h``."""
    if moment is None:
        return ""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if abs(seconds) >= size or size == 1:
            amount = f"{abs(seconds) / size:.0f} {unit}"
            return f"{amount} ago" if seconds >= 0 else f"in {amount}"
    raise AssertionError("the last unit takes everything")


def print_tasks(tasks: Sequence[Task], *, empty: str) -> None:
    if is_narrow():
        print_table(
            ["ID", "TASK", "STATUS", "CREATED"],
            ([t.task_id, t.task, coloured(t.status), ago(t.created_at)] for t in tasks),
            empty=empty,
            below=[_details_of(task) for task in tasks],
        )
        return
    print_table(
        ["ID", "TASK", "STATUS", "PRIORITY", "ATTEMPT", "CREATED", "NOTE"],
        (
            [
                task.task_id,
                task.task,
                coloured(task.status),
                task.priority.name.lower(),
                task.attempt,
                ago(task.created_at),
                _note_of(task),
            ]
            for task in tasks
        ),
        empty=empty,
    )


def print_task(task: Task) -> None:
    """Every field that says something."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in task.model_dump(mode="json").items():
        if value in (None, [], {}, "") or name == "error":
            continue
        if name == "status":
            table.add_row(name, coloured(value))
        elif name == "priority":
            table.add_row(name, task.priority.name.lower())
        else:
            table.add_row(name, _text(value if isinstance(value, str) else _compact(value)))
    if task.error is not None:
        table.add_row("error", _text(f"{task.error.type}: {task.error.message}"))
        table.add_row("", _text(task.error.classification))
        if task.error.traceback:
            table.add_row("traceback", _text(task.error.traceback.rstrip()))
    show(table)


def _details_of(task: Task) -> str:
    """What a narrow table has no columns for, as far as it is out of the ordinary."""
    priority = task.priority.name.lower()
    parts = [
        "" if priority == "normal" else priority,
        f"attempt {task.attempt}" if task.attempt > 1 else "",
        _note_of(task),
    ]
    return ", ".join(part for part in parts if part)


def _note_of(task: Task) -> str:
    if task.error is not None:
        return f"{task.error.type}: {task.error.message}".partition("\n")[0][:80]
    if task.progress is not None and not task.status.is_final:
        return f"{task.progress:.0f} % {task.progress_message or ''}".rstrip()
    return task.name or ""


def _text(value: Any) -> Any:
    """As it is: what tasks contain is not Rich's markup, and moves no cursor."""
    from rich.text import Text

    text = "" if value is None else str(value)
    return Text("".join(c if c.isprintable() or c in _SHOWN else "�" for c in text))


def _compact(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


def _plain(value: Any) -> Any:
    """For what orjson does not know: Pydantic models, and classes that are data."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "_asdict"):
        return value._asdict()
    return str(value)
