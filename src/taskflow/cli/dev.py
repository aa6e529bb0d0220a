"""`taskflow dev`: API, workers and background services in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Host, Port, Tasks, Workers, given

if TYPE_CHECKING:
    from taskflow.app import TaskFlow


def dev(tasks: Tasks = None, host: Host = None, port: Port = None, workers: Workers = None) -> None:
    """Run everything in one process: HTTP API, workers, background services.

    Ctrl-C stops in good order: attempts that run may finish. A second one gives them back at once.
    """
    from taskflow.app import TaskFlow
    from taskflow.cli import serving

    app = TaskFlow(settings_here(**given(tasks=tasks, host=host, port=port, num_workers=workers)))
    raise typer.Exit(serving.run(app, service="dev", greet=lambda address: _greet(app, address)))


def _greet(app: TaskFlow, address: str) -> None:
    registered = ", ".join(handler.name for handler in app.handlers())
    lines = [
        f"TaskFlow listens on {address}  (docs: {address}/docs)",
        f"Workers: {app.settings.num_workers}  Store: {app.settings.home.absolute()}",
        f"Tasks: {registered}",
        "Ctrl-C stops.",
    ]
    print("\n".join(lines), flush=True)
