"""`taskflow submit`: arguments as people type them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskflow.cli.connection import connected
from taskflow.cli.options import Json, Url

if TYPE_CHECKING:
    from taskflow.calls.tasks import TaskCalls

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``5m``, ``2h`` or ``1d``."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter("give seconds, or 90s, 5m, 2h, 1d")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as exc:
        raise typer.BadParameter("give a moment like 2030-01-31T09:00:00Z") from exc


def submit(
    name: Annotated[str, typer.Argument(help="Name of the task.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE…",
            help="Arguments by name. A value is JSON if it can be read as such and the task does not "
            "want a string, else text.",
        ),
    ] = None,
    json_args: Annotated[
        str | None,
        typer.Option(
            help="Arguments as JSON: an object by name, a list by position.", metavar="JSON"
        ),
    ] = None,
    priority: Annotated[
        str | None, typer.Option(help="critical, high, normal, low, or 0 to 3.")
    ] = None,
    delay: Annotated[
        Any,
        typer.Option(
            parser=duration, metavar="DURATION", help="Run it this much later: 90, 5m, 2h."
        ),
    ] = None,
    run_at: Annotated[
        Any,
        typer.Option(parser=moment, metavar="MOMENT", help="Not before this moment (ISO 8601)."),
    ] = None,
    expires_in: Annotated[
        Any,
        typer.Option(parser=duration, metavar="DURATION", help="Do not start it later than this."),
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option(help="Attempts after the first one that failed.", min=0)
    ] = None,
    timeout: Annotated[
        Any, typer.Option(parser=duration, metavar="DURATION", help="How long one attempt may run.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key never makes a second task.")
    ] = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option(help="Run it after this task completed. Repeatable.", metavar="ID"),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag, to find it by. Repeatable.")] = None,
    label: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the result and print it; exit 1 if it fails.")
    ] = False,
    wait_timeout: Annotated[
        Any,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="Wait, but no longer than this; exit 1 if it has not ended by then. It goes on.",
        ),
    ] = None,
    url: Url = None,
    json: Json = False,
) -> None:
    """Submit a task: taskflow submit send_email to=a@example.com subject=Hi --priority high"""
    from taskflow.cli import output
    from taskflow.core.submission import Submission, SubmitOptions

    options = {
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "expires_in": expires_in,
        "max_retries": max_retries,
        "timeout": timeout,
        "idempotency_key": idempotency_key,
        "depends_on": depends_on,
        "tags": tag,
        "name": label,
    }
    chosen = SubmitOptions.of(**{key: value for key, value in options.items() if value is not None})
    with connected(url, create=True, tasks=True) as calls:
        args, kwargs = _from_json(json_args)
        kwargs |= _from_words(calls, name, arguments or [])
        handle = calls.submit_task(Submission(name, args, kwargs, chosen))
        if not wait and wait_timeout is None:
            if json:
                output.print_json(handle.task())
            else:
                print(handle.id)
                _note_missing_worker(calls)
            return
        if not json:
            output.note(f"waiting for task {handle.id}")
        _note_missing_worker(calls)
        task = handle.wait(wait_timeout)
        if json:
            output.print_json(task)
            if task.status != "completed":
                raise typer.Exit(1)
        else:
            output.print_json(handle.result())


def _note_missing_worker(calls: TaskCalls) -> None:
    from taskflow.cli import output

    if not any(worker.status == "running" for worker in calls.workers()):
        output.note("No worker is running: the task waits for one (`taskflow dev`).")


def _from_json(text: str | None) -> tuple[Sequence[Any], dict[str, Any]]:
    from taskflow.core import jsontext
    from taskflow.core.errors import InvalidJSONError

    if text is None:
        return (), {}
    try:
        value = jsontext.loads(text)
    except InvalidJSONError as exc:
        raise typer.BadParameter(exc.detail, param_hint="--json-args") from exc
    match value:
        case list():
            return value, {}
        case dict():
            return (), value
    raise typer.BadParameter("give an object or a list", param_hint="--json-args")


def _from_words(calls: TaskCalls, name: str, words: Sequence[str]) -> dict[str, Any]:
    from taskflow.core import jsontext
    from taskflow.core.errors import InvalidJSONError

    kwargs: dict[str, Any] = {}
    texts: frozenset[str] | None = None
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{word!r} is not KEY=VALUE", param_hint="KEY=VALUE…")
        if key in kwargs:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="KEY=VALUE…")
        try:
            value = jsontext.loads(text)
        except InvalidJSONError:
            value = text
        if not isinstance(value, str) or value != text:
            # `zip=12345` is a number for one task and a text for another: its schema knows.
            texts = _text_arguments(calls, name) if texts is None else texts
            value = text if key in texts else value
        kwargs[key] = value
    return kwargs


def _text_arguments(calls: TaskCalls, name: str) -> frozenset[str]:
    """Names of the arguments that the task wants as strings."""
    for handler in calls.handlers():
        if handler.name == name:
            properties: Mapping[str, Any] = handler.arguments.get("properties", {})
            return frozenset(key for key, schema in properties.items() if _is_text(schema))
    return frozenset()


def _is_text(schema: Mapping[str, Any]) -> bool:
    kinds = {choice.get("type") for choice in schema.get("anyOf", [schema])}
    return "string" in kinds and kinds <= {"string", "null"}
