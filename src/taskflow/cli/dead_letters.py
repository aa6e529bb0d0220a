"""`taskflow dead-letters`: failed tasks that wait for a person."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import connected
from taskflow.cli.options import Json, Limit, Url

if TYPE_CHECKING:
    from taskflow.ports.metadata import FailureGroup

commands = typer.Typer(help="Failed tasks that wait for a person.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="These tasks, or:")]
TaskName = Annotated[str | None, typer.Option("--task", help="Name of the task.")]
Fingerprint = Annotated[
    str | None, typer.Option(help="Of a group of like failures, see `groups`.", metavar="HEX")
]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@commands.command("list")
def list_dead_letters(
    task: TaskName = None,
    fingerprint: Fingerprint = None,
    limit: Limit = 50,
    url: Url = None,
    json: Json = False,
) -> None:
    """List them, newest first."""
    from taskflow.cli import output
    from taskflow.cli.tasks import pages

    with connected(url) as calls:
        found = pages(
            lambda size, cursor: calls.dead_letters.list(
                task=task, fingerprint=fingerprint, limit=size, cursor=cursor
            ),
            limit,
        )
    if json:
        output.print_json(found)
    else:
        output.print_tasks(found, empty="no dead letters")


@commands.command()
def groups(limit: Limit = 100, url: Url = None, json: Json = False) -> None:
    """Group them by the error they share, the largest group first."""
    from taskflow.cli import output

    with connected(url) as calls:
        found = calls.dead_letters.groups(limit=limit)
    if json:
        output.print_json(
            [
                group._asdict()
                | {"first_at": _moment(group.first_at), "last_at": _moment(group.last_at)}
                for group in found
            ]
        )
        return
    if output.is_narrow():
        output.print_table(
            ["COUNT", "TASK", "LAST", "FINGERPRINT"],
            ([g.count, g.task, output.ago(_moment(g.last_at)), g.fingerprint] for g in found),
            empty="no dead letters",
            below=[f"{group.sample_task_id}  {_error(group)}" for group in found],
        )
        return
    output.print_table(
        ["COUNT", "TASK", "ERROR", "LAST", "FINGERPRINT", "EXAMPLE"],
        (
            [
                group.count,
                group.task,
                _error(group),
                output.ago(_moment(group.last_at)),
                group.fingerprint,
                group.sample_task_id,
            ]
            for group in found
        ),
        empty="no dead letters",
    )


@commands.command()
def redrive(
    task_ids: Ids = None,
    task: TaskName = None,
    fingerprint: Fingerprint = None,
    all: Everything = False,
    rate: Annotated[
        float | None, typer.Option(help="Start so many a second.", metavar="PER_SECOND")
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Run dead letters anew, with all their retries."""
    from taskflow.cli import output

    with connected(url) as calls:
        count = calls.dead_letters.redrive(
            task_ids, task=task, fingerprint=fingerprint, all=all, rate_per_second=rate
        )
    output.print_json({"redriven": count}) if json else print(f"{count} redriven")


@commands.command()
def discard(
    task_ids: Ids = None,
    task: TaskName = None,
    fingerprint: Fingerprint = None,
    all: Everything = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Put dead letters away: they leave the list and stay failed."""
    from taskflow.cli import output

    with connected(url) as calls:
        count = calls.dead_letters.discard(task_ids, task=task, fingerprint=fingerprint, all=all)
    output.print_json({"discarded": count}) if json else print(f"{count} discarded")


def _error(group: FailureGroup) -> str:
    return f"{group.error_type}: {group.message}".partition("\n")[0][:100]


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
