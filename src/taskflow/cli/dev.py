"""`taskflow dev`: API, workers and background services in one process."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Host, Port, Tasks, Workers, given

if TYPE_CHECKING:
    from taskflow.app import TaskFlow


Chaos = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        help="Let the queue misbehave as SQS may (duplicates, delays, disorder, lost acks, failed sends), in an order "
        "that this seed decides. Never for real work.",
        min=1,
    ),
]


def dev(
    tasks: Tasks = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    chaos: Chaos = None,
) -> None:
    """Run everything in one process: HTTP API, workers, background services.

    Ctrl-C stops in good order: attempts that run may finish. A second one gives them back at once.
    """
    gc.disable()  # until it serves: garbage.py
    from taskflow.app import TaskFlow
    from taskflow.cli import serving

    changes = given(tasks=tasks, host=host, port=port, num_workers=workers, chaos_seed=chaos)
    app = TaskFlow(settings_here(**changes), service="dev")
    raise typer.Exit(serving.run(app, service="dev", greet=lambda address: _greet(app, address)))


def _greet(app: TaskFlow, address: str) -> None:
    registered = ", ".join(handler.name for handler in app.handlers())
    lines = [
        f"TaskFlow listens on {address}  (docs: {address}/docs)",
        f"Workers: {app.settings.num_workers}  Store: {app.settings.home.absolute()}",
        f"Tasks: {registered}",
        "Ctrl-C stops.",
    ]
    if app.settings.chaos_seed:
        lines.insert(1, f"CHAOS: the queue misbehaves on purpose (seed {app.settings.chaos_seed})")
    print("\n".join(lines), flush=True)
