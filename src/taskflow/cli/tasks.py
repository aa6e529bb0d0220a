"""Looking at tasks and controlling them: status, watch, list, cancel, retry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskflow.cli.connection import connected
from taskflow.cli.options import Json, Limit, TaskId, TaskIds, Url
from taskflow.cli.submit import duration

if TYPE_CHECKING:
    from taskflow.calls.tasks import TaskCalls
    from taskflow.calls.views import TaskPage
    from taskflow.core.events import Event
    from taskflow.core.task import Task

_PAGE = 200
_LOOK_SECONDS = 0.5  # how often `watch` looks for progress; the end is noticed at once


def status(
    task_id: TaskId,
    history: Annotated[
        bool, typer.Option("--history", help="Everything that happened to it, too.")
    ] = False,
    url: Url = None,
    json: Json = False,
) -> None:
    """Show one task with its result or error."""
    from taskflow.cli import output

    with connected(url) as calls:
        task = calls.get(task_id)
        events = calls.history(task_id) if history else []
    if json:
        output.print_json({**task.model_dump(mode="json"), "history": events} if history else task)
        return
    output.print_task(task)
    if events:
        print()
        output.print_table(
            ["WHEN", "EVENT", "DATA"],
            ([f"{e.at:%Y-%m-%d %H:%M:%S.%f}"[:-3], e.type.value, _data(e)] for e in events),
            empty="",
        )


def _data(event: Event) -> str:
    """In words: `attempt 1, error ValueError: …`. Tracebacks have lines of their own, and are in the JSON."""
    values = dict(event.data)
    if isinstance(error := values.get("error"), dict):
        values["error"] = f"{error.get('type')}: {error.get('message')}"
    return ", ".join(f"{name} {value}" for name, value in values.items())


def watch(task_id: TaskId, url: Url = None, json: Json = False) -> None:
    """Follow a task until it ends, with its progress. Exit code 1 unless it completes."""
    with connected(url) as calls:
        if json:
            from taskflow.cli.output import print_json_line

            task = _follow(calls, task_id, lambda task: print_json_line(_short(task)))
        elif sys.stdout.isatty():
            task = _follow_with_bar(calls, task_id)
        else:
            task = _follow(calls, task_id, lambda task: print(_line(task), flush=True))
    if task.status != "completed":
        raise typer.Exit(1)


def list_tasks(
    status: Annotated[
        list[str] | None, typer.Option(help="In this state: pending, failed, … Repeatable.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    priority: Annotated[
        str | None, typer.Option(help="critical, high, normal, low, or 0 to 3.")
    ] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag.")] = None,
    since: Annotated[
        Any,
        typer.Option(
            parser=duration, metavar="DURATION", help="Submitted within: 90s, 5m, 2h, 1d."
        ),
    ] = None,
    q: Annotated[str | None, typer.Option(help="Part of the id, the task or the name.")] = None,
    limit: Limit = 50,
    url: Url = None,
    json: Json = False,
) -> None:
    """List tasks, newest first."""
    from taskflow.calls.views import TaskQuery
    from taskflow.cli import output

    after = (
        None
        if since is None
        else datetime.fromtimestamp(datetime.now(UTC).timestamp() - since, UTC)
    )
    query = TaskQuery.of(
        status=status, task=task, priority=priority, tag=tag, created_after=after, q=q
    )
    with connected(url) as calls:
        found = pages(lambda size, cursor: calls.find(query, limit=size, cursor=cursor), limit)
    if json:
        output.print_json(found)
    else:
        output.print_tasks(found, empty="no tasks")


def pages(fetch: Callable[[int, str | None], TaskPage], limit: int) -> list[Task]:
    """The first ``limit`` tasks, however many pages that takes."""
    found: list[Task] = []
    cursor: str | None = None
    while True:
        page = fetch(min(_PAGE, limit - len(found)), cursor)
        found += page.items
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return found


def cancel(task_ids: TaskIds, url: Url = None, json: Json = False) -> None:
    """Cancel waiting and running tasks."""
    with connected(url) as calls:
        _each(task_ids, calls.cancel, json=json)


def retry(task_ids: TaskIds, url: Url = None, json: Json = False) -> None:
    """Run final tasks anew, with all their retries."""
    with connected(url) as calls:
        _each(task_ids, calls.retry, json=json)


def _each(task_ids: Sequence[str], change: Callable[[str], Task], *, json: bool) -> None:
    """Those that cannot be changed do not keep the others from it."""
    from taskflow.cli import output
    from taskflow.core.errors import InvalidTransitionError, TaskNotFoundError

    changed: list[Task] = []
    for task_id in task_ids:
        try:
            changed.append(change(task_id))
        except (InvalidTransitionError, TaskNotFoundError) as exc:
            output.note(f"taskflow: {task_id}: {exc.detail}")
    if json:
        output.print_json(changed)
    else:
        for task in changed:
            wanted = (
                " (its worker was told)"
                if task.cancel_requested and not task.status.is_final
                else ""
            )
            print(f"{task.task_id} {task.status}{wanted}")
    if len(changed) < len(task_ids):
        raise typer.Exit(1)


def _follow(calls: TaskCalls, task_id: str, show: Callable[[Task], None]) -> Task:
    """Call ``show`` for every change, until the task is final."""
    shown = None
    task = calls.get(task_id)
    while True:
        seen = (task.status, task.attempt, task.progress, task.progress_message)
        if seen != shown:
            show(task)
            shown = seen
        if task.status.is_final:
            return task
        task = calls.wait(task_id, _LOOK_SECONDS)


def _follow_with_bar(calls: TaskCalls, task_id: str) -> Task:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        TimeElapsedColumn(),
    ) as bars:
        bar = bars.add_task("", total=None, message="")

        def show(task: Task) -> None:
            done = 100.0 if task.status == "completed" else task.progress
            bars.update(
                bar,
                description=f"{task.task} {task.status}"
                + (f" ({task.attempt})" if task.attempt > 1 else ""),
                total=None if done is None else 100.0,
                completed=done or 0.0,
                message=_message(task),
            )

        return _follow(calls, task_id, show)


def _line(task: Task) -> str:
    percent = "" if task.progress is None else f" {task.progress:.0f} %"
    return f"{task.task} {task.status}{percent} {_message(task)}".rstrip()


def _message(task: Task) -> str:
    if task.error is not None and task.status != "completed":
        return f"{task.error.type}: {task.error.message}".partition("\n")[0]
    return task.progress_message or ""


def _short(task: Task) -> dict[str, Any]:
    names = (
        "task_id",
        "task",
        "status",
        "attempt",
        "progress",
        "progress_message",
        "result",
        "error",
    )
    return {name: getattr(task, name) for name in names}
