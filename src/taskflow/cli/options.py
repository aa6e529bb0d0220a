"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

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
