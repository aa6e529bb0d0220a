"""`taskflow logs`: the saved queries, over the logs of this machine or in CloudWatch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskflow.cli.options import Json
from taskflow.cli.submit import duration

if TYPE_CHECKING:
    from datetime import datetime

    from taskflow.observability.insights import Answer
    from taskflow.observability.queries import Query
    from taskflow.settings import Settings


def logs(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUERY]", help="Its name, or a part of it that no other has; none: list them."
        ),
    ] = None,
    since: Annotated[
        Any,
        typer.Option(parser=duration, metavar="DURATION", help="How far back: 90s, 5m, 2h, 1d."),
    ] = "1h",
    task: Annotated[str | None, typer.Option(metavar="ID", help="About one task only.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="ID", help="About one tenant only.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most this many rows; none: as saved.", min=1, max=10_000)
    ] = None,
    stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Ask CloudWatch about this stack. Default: on AWS TASKFLOW_QUEUE_PREFIX, else the logs in the home.",
        ),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="Of the stack. Default: AWS's own settings.")
    ] = None,
    json: Json = False,
) -> None:
    """Ask the logs: errors by task, slowest tasks, one task's story, queue waits, latencies, dead letters, costs.

    On AWS the saved queries of CloudWatch Logs Insights are run, which costs by the amount of logs in that time;
    elsewhere the same queries are answered from the files that `taskflow dev`, `api` and `worker` keep.
    """
    from datetime import UTC, datetime, timedelta

    from taskflow.cli import output
    from taskflow.cli.connection import settings_here

    if query is None:
        _list(json)
        return
    wanted = _query(query)
    text = wanted.with_parameters(task_id=task, tenant_id=tenant, limit=limit)
    settings = settings_here()
    now = datetime.now(UTC)
    answer = _ask(
        settings,
        wanted,
        text,
        since=now - timedelta(seconds=since),
        until=now,
        stack=stack or (settings.queue_prefix if settings.is_on_aws else None),
        region=region or settings.aws_region,
    )
    if json:
        output.print_json(answer.rows)
        return
    output.print_table(
        [column.upper() for column in answer.columns],
        ([row.get(column) for column in answer.columns] for row in answer.rows),
        empty=f"nothing was logged in that time that {wanted.name} asks for",
    )


def _ask(
    settings: Settings,
    query: Query,
    text: str,
    *,
    since: datetime,
    until: datetime,
    stack: str | None,
    region: str | None,
) -> Answer:
    if stack is not None:
        from taskflow.observability.cloudwatch import CloudWatchLogs, logs_client

        logs = CloudWatchLogs(logs_client(region), stack)
        return logs.run(text, services=query.services, since=since, until=until)
    from taskflow.core.errors import ConfigurationError
    from taskflow.observability.insights import evaluate, events_of, parse
    from taskflow.observability.log_files import lines_of

    directory = settings.log_directory
    if directory is None or not directory.is_dir():
        raise ConfigurationError(
            f"there are no logs in {(settings.home / 'logs').absolute()}: start `taskflow dev` here, set TASKFLOW_HOME "
            "(and TASKFLOW_LOG_KEEP_BYTES above 0), or name a stack on AWS with --stack"
        )
    return evaluate(parse(text), events_of(lines_of(directory, since=since), since=since))


def _query(name: str) -> Query:
    """By name, or a part of it that no other has: `story`, `errors`."""
    from taskflow.core.arguments import did_you_mean
    from taskflow.core.errors import InvalidRequestError
    from taskflow.observability.queries import QUERIES

    if (found := QUERIES.get(name)) is not None:
        return found
    meant = [query for query in QUERIES.values() if name in query.name] if name else []
    if len(meant) == 1:
        return meant[0]
    hint = did_you_mean(name, list(QUERIES)) or f": {', '.join(QUERIES)}"
    raise InvalidRequestError(f"there is no query {name!r}{hint}")


def _list(json: bool) -> None:
    from taskflow.cli import output
    from taskflow.observability.queries import QUERIES

    if json:
        output.print_json(
            [
                {"name": query.name, "title": query.title, "text": query.text}
                for query in QUERIES.values()
            ]
        )
        return
    output.print_table(
        ["QUERY", "WHAT IT TELLS"],
        ([query.name, query.title] for query in QUERIES.values()),
        empty="",
    )
