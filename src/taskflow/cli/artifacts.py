"""The files of a task: listed, or fetched."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from taskflow.cli.connection import connected
from taskflow.cli.options import Json, TaskId, Url


def artifacts(
    task_id: TaskId,
    download: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fetch this one instead of listing.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to write it; -: stdout. Default: NAME."
        ),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """List the files that a task's handler left, or download one of them."""
    from taskflow.cli.output import note, print_json, print_table

    if download is None:
        if output is not None:
            raise typer.BadParameter("goes with --download", param_hint="--output")
        with connected(url) as calls:
            found = calls.artifacts(task_id)
        if json:
            print_json(found)
        else:
            print_table(
                ["NAME", "BYTES", "TYPE", "ATTEMPT", "WRITTEN"],
                (
                    [
                        artifact.name,
                        str(artifact.size_bytes),
                        artifact.content_type,
                        str(artifact.attempt),
                        f"{artifact.created_at:%Y-%m-%d %H:%M:%S}",
                    ]
                    for artifact in found
                ),
                empty="no artifacts",
            )
        return
    with connected(url) as calls:
        content = calls.artifact(task_id, download)
    if output == "-":
        sys.stdout.buffer.write(content)
        return
    path = Path(output or download)
    is_new = not path.exists()
    if output is None and not is_new:
        # The name was chosen by a handler: it must not replace what somebody has here.
        note(f"taskflow: {path} exists; name another file with --output")
        raise typer.Exit(1)
    try:
        path.write_bytes(content)
    except OSError as exc:
        if is_new:
            with suppress(OSError):
                path.unlink()  # half of it would keep the next attempt from writing all
        note(f"taskflow: cannot write {path}: {exc.strerror}")
        raise typer.Exit(1) from exc
    note(f"{path}: {len(content)} bytes")
