"""`taskflow dev`: API, workers and background services in one process."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import settings_here

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.settings import Settings


def dev(
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            help="Module that registers tasks. Repeatable. Default: TASKFLOW_TASKS.",
            metavar="MODULE",
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: any free one.", min=0, max=65_535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Attempts that may run at once.", min=0)
    ] = None,
) -> None:
    """Run everything in one process: HTTP API, workers, background services.

    Ctrl-C stops in good order: attempts that run may finish. A second one gives them back at once.
    """
    given = {
        "tasks": ",".join(tasks) if tasks else None,
        "host": host,
        "port": port,
        "num_workers": workers,
    }
    settings = settings_here(**{name: value for name, value in given.items() if value is not None})
    raise typer.Exit(_run(settings))


def _run(settings: Settings) -> int:
    from taskflow import logs
    from taskflow.api.app import create_app
    from taskflow.api.server import address_of, listen, serve
    from taskflow.app import TaskFlow

    logs.configure(settings.log_level, settings.log_format, service="dev")
    app = TaskFlow(settings)
    # Bound first: a port that is taken is the likeliest mistake, and the cheapest to find out.
    with listen(settings.host, settings.port) as listener:
        stopping = _Stopping(app)
        app.start()
        try:
            _greet(app, address_of(listener))
            api = create_app(app.runtime, worker=app.worker)
            serve(api, settings, listener, on_signal=stopping.count)
            stopping.handle_signals()
        finally:
            app.stop()
    return 1 if stopping.at_once else 0


def _greet(app: TaskFlow, address: str) -> None:
    registered = ", ".join(handler.name for handler in app.handlers())
    lines = [
        f"TaskFlow listens on {address}  (docs: {address}/docs)",
        f"Workers: {app.settings.num_workers}  Store: {app.settings.home.absolute()}",
        f"Tasks: {registered}",
        "Ctrl-C stops.",
    ]
    print("\n".join(lines), flush=True)


class _Stopping:
    """The first signal stops in good order, the second lets go of everything that still runs."""

    def __init__(self, app: TaskFlow) -> None:
        self._worker = app.worker
        self._app = app
        self.at_once = False

    def count(self, signals: int) -> None:
        """Called in the signal handler."""
        if signals == 1:
            self._worker = self._app.worker
            print(
                "stopping: attempts that run may finish; a second signal gives them back",
                file=sys.stderr,
            )
        elif not self.at_once:
            self.at_once = True
            if self._worker is not None:
                # Not here: a signal handler must not wait for a lock that the interrupted code may hold.
                threading.Thread(target=self._worker.release, name="taskflow-release").start()

    def handle_signals(self) -> None:
        """The server has ended, workers may still drain: from now on every signal is a second one."""

        def again(_number: int, _frame: FrameType | None) -> None:
            self.count(2)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, again)
