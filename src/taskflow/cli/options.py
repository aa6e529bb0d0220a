"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Talk to the server at this address only. Default: TASKFLOW_URL; without it the local "
        "server if it answers, else the store itself.",
        metavar="URL",
    ),
]
TaskId = Annotated[str, typer.Argument(metavar="ID", help="Id of a task.")]
TaskIds = Annotated[list[str], typer.Argument(metavar="ID…", help="Ids of tasks.")]
Limit = Annotated[int, typer.Option(help="At most this many.", min=1)]
Tasks = Annotated[
    list[str] | None,
    typer.Option(
        help="Module that registers tasks. Repeatable. Default: TASKFLOW_TASKS.",
        metavar="MODULE",
    ),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65_535)
]
Workers = Annotated[int | None, typer.Option(help="Attempts that may run at once.", min=0)]


def given(**values: Any) -> dict[str, Any]:
    """The settings that were named as options. Modules become one text, as in the environment."""
    return {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None and value != []
    }
