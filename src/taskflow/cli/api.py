"""`taskflow api`: the HTTP API without workers."""

from __future__ import annotations

import gc
import sys

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Host, Port, Tasks, given


def api(tasks: Tasks = None, host: Host = None, port: Port = None) -> None:
    """Run the HTTP API alone; `taskflow worker` processes do the work. Any number may share one store.

    SIGTERM and Ctrl-C stop in good order: requests being answered are finished. A second one breaks them off.
    """
    gc.disable()  # until it serves: garbage.py
    from taskflow.app import TaskFlow
    from taskflow.cli import serving

    settings = settings_here(**given(tasks=tasks, host=host, port=port))
    # No workers, whatever TASKFLOW_NUM_WORKERS says: containers of both kinds share their settings.
    app = TaskFlow(settings, service="api", num_workers=0)
    raise typer.Exit(serving.run(app, service="api", greet=_greet))


def _greet(address: str) -> None:
    """For people; who collects logs finds the address in `server.started`."""
    if sys.stdout.isatty():
        print(f"TaskFlow listens on {address}  (docs: {address}/docs). Ctrl-C stops.", flush=True)
