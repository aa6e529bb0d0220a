"""The system as a whole: handlers, workers, stats, version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from taskflow.cli.connection import connected
from taskflow.cli.options import Json, Url


def handlers(url: Url = None, json: Json = False) -> None:
    """List the tasks that can be submitted, with their arguments."""
    from taskflow.cli import output

    with connected(url, create=True, tasks=True) as calls:
        found = calls.handlers()
    if json:
        output.print_json([asdict(handler) for handler in found])
        return
    output.print_table(
        ["TASK", "ARGUMENTS", "PRIORITY", "RUNS IN", "DESCRIPTION"],
        (
            [
                handler.name,
                _arguments(handler.arguments),
                handler.priority.name.lower(),
                handler.executor,
                handler.description,
            ]
            for handler in found
        ),
        empty="no tasks are registered: name their modules in TASKFLOW_TASKS",
    )


def workers(url: Url = None, json: Json = False) -> None:
    """List the worker processes that have reported lately."""
    from taskflow.cli import output

    with connected(url) as calls:
        found = calls.workers()
    if json:
        moments = ("started_at", "seen_at")
        output.print_json(
            [w._asdict() | {name: _moment(getattr(w, name)) for name in moments} for w in found]
        )
        return
    output.print_table(
        ["WORKER", "STATUS", "BUSY", "STARTED", "SEEN"],
        (
            [
                worker.worker_id,
                worker.status,
                f"{worker.details.get('busy', '?')} of {worker.details.get('total', '?')}",
                output.ago(_moment(worker.started_at)),
                output.ago(_moment(worker.seen_at)),
            ]
            for worker in found
        ),
        empty="no workers",
    )


def stats(url: Url = None, json: Json = False) -> None:
    """Show the numbers: tasks by status, totals, latencies in ms."""
    from taskflow.cli import output

    with connected(url) as calls:
        metrics = calls.metrics()
    if json:
        output.print_json(metrics)
    else:
        output.print_table(["MEASURE", "VALUE"], _flat("", metrics), empty="")


def version() -> None:
    """Print the version."""
    from taskflow import __version__

    print(__version__)


def _version_option(is_asked: bool) -> None:
    if is_asked:
        version()
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_version_option,
        ),
    ] = False,
) -> None:
    """Background tasks that are never lost."""


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from _flat(path, value)
        elif isinstance(value, float):
            yield path, f"{value:.3f}".rstrip("0").rstrip(".")
        elif value is not None:
            yield path, value


def _arguments(schema: Mapping[str, Any]) -> str:
    """``to subject [body]``."""
    required = schema.get("required", ())
    names = (name if name in required else f"[{name}]" for name in schema.get("properties", {}))
    return " ".join(names)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
