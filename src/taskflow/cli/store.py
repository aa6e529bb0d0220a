"""The store itself: backup, restore, migrate, doctor. These always open it, whether a server runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import opened_store, settings_here
from taskflow.cli.options import Json

if TYPE_CHECKING:
    from taskflow.services.finding import Finding
    from taskflow.settings import Settings

_MARKS = {"ok": "green", "repaired": "cyan", "warning": "yellow", "problem": "bold red"}
_SHOWN = 5


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Default: taskflow-backup-<time>.json in this directory.", dir_okay=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the whole store into one JSON file. Servers may go on meanwhile."""
    from taskflow.cli import output

    with opened_store(settings_here()) as app:
        report = app.backups.backup(file or Path(app.backups.default_name()))
    if json:
        output.print_json(
            {"file": str(report.path), **report.header.model_dump(), "damaged": report.damaged}
        )
    else:
        print(report.path)
        tasks = report.header.tables.get("tasks", 0)
        output.note(
            f"{tasks} tasks, {report.header.records} records, {report.header.payloads} payloads"
        )
    if report.damaged:
        shown = ", ".join(report.damaged[:_SHOWN])
        output.note(f"not in it, missing or damaged: {len(report.damaged)} payloads ({shown})")


def restore(
    file: Annotated[Path, typer.Argument(help="A file written by `taskflow backup`.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the tasks there are, even while workers run.")
    ] = False,
    json: Json = False,
) -> None:
    """Replace the content of the store by that of a backup, which is checked completely first."""
    from taskflow.cli import output

    with opened_store(settings_here(), create=True) as app:
        header = app.backups.restore(file, force=force)
    if json:
        output.print_json(header)
    else:
        print(f"restored {header.tables.get('tasks', 0)} tasks as of {header.created_at}")


def migrate(json: Json = False) -> None:
    """Bring the store to this program's schema, or create it. Every other command does so, too."""
    from taskflow.bootstrap import build_clock, migrate_store
    from taskflow.cli import output

    before, revision = migrate_store(settings_here(), build_clock())
    created = before is None
    if json:
        output.print_json({"schema_revision": revision, "created": created})
    else:
        print(f"the store has schema {revision}" + (" (created)" if created else ""))


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is safe to repair.")] = False,
    json: Json = False,
) -> None:
    """Check store, queue and payload files against each other. Exit code 1 when there is a problem."""
    from taskflow.cli import output

    found = []
    for finding in _examine(settings_here(), fix=fix):
        found.append(finding)
        if not json:
            _show(finding)
    if json:
        output.print_json([asdict(finding) for finding in found])
    if any(finding.health == "problem" for finding in found):
        raise typer.Exit(1)


def _examine(settings: Settings, *, fix: bool) -> Iterator[Finding]:
    from taskflow.core.errors import TaskFlowError
    from taskflow.services.finding import Finding, Health
    from taskflow.services.home_checks import checks_of

    is_open = False
    try:
        # With its tasks, to know whose handlers are missing; without, if they cannot be imported.
        wrong = _wrong_tasks(settings)
        if wrong is not None:
            yield Finding("tasks", Health.PROBLEM, wrong, 1)
        with opened_store(settings, tasks=wrong is None) as app:
            is_open = True
            yield from app.doctor.examine(fix=fix)
    except TaskFlowError as exc:
        if not is_open:
            # What is wrong with the directory is often why the store cannot be opened.
            for check in checks_of(settings.home):
                yield check(fix)
        yield Finding("store", Health.PROBLEM, exc.detail, 1)


def _wrong_tasks(settings: Settings) -> str | None:
    """Why the modules of TASKFLOW_TASKS cannot be imported, if they cannot."""
    from taskflow.bootstrap import import_tasks
    from taskflow.core.errors import ConfigurationError

    try:
        import_tasks(settings)
    except ConfigurationError as exc:
        return exc.detail
    return None


def _show(finding: Finding) -> None:
    from rich.text import Text

    from taskflow.cli import output

    line = Text(f"{finding.health:<9}", style=_MARKS[finding.health])
    line.append(f"{finding.check}: {finding.message}", style="default")
    output.show(line)
    if finding.advice:
        output.show(Text(f"          → {finding.advice}"))
    for example in finding.examples:
        output.show(Text(f"            {example}", style="dim"))
