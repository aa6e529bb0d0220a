"""`taskflow dev`: API, workers and background services in one process."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import settings_here

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.settings import Settings
    from taskflow.worker.worker import Worker


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
        stopping.handle(stopping.leave)
        try:
            app.start()
            _greet(app, address_of(listener))
            api = create_app(app.runtime, worker=app.worker)
            serve(api, settings, listener, on_signal=stopping.count)
        finally:
            stopping.handle(stopping.release)
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
        self._app = app
        self._worker: Worker | None = None
        self._asked = False
        self.at_once = False

    def handle(self, action: Callable[[], None]) -> None:
        """What a signal does from now on; while the server runs, it handles them itself and calls `count`."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: action())

    def count(self, signals: int) -> None:
        """Called in the signal handler."""
        if signals > 1:
            self.release()
            return
        self._asked = True
        self._worker = self._app.worker
        print("stopping: what runs may finish; a second signal gives it back", file=sys.stderr)

    def leave(self) -> None:
        """Before the server handles signals."""
        if self._asked:
            self.release()
        else:
            raise SystemExit(0)

    def release(self) -> None:
        if not self.at_once:
            self.at_once = True
            if self._worker is not None:
                # Not here: a signal handler must not wait for a lock that the interrupted code may hold.
                threading.Thread(target=self._worker.release, name="taskflow-release").start()
