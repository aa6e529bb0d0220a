"""`taskflow worker`: workers and background services, without the HTTP API."""

from __future__ import annotations

import gc
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from taskflow.cli.connection import settings_here
from taskflow.cli.options import Tasks, Workers, given

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.settings import Settings
    from taskflow.worker.worker import Worker


def worker(
    tasks: Tasks = None,
    workers: Workers = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            help="Answer GET /health on this port; 0: none. Default: TASKFLOW_WORKER_HEALTH_PORT.",
            metavar="PORT",
            min=0,
            max=65_535,
        ),
    ] = None,
) -> None:
    """Run tasks, and the services that keep every promise: relay, recovery, retention. Any number may run at once.

    SIGTERM and Ctrl-C stop in good order: attempts that run may finish. A second one gives them back at once.
    """
    gc.disable()  # until it works: garbage.py
    raise typer.Exit(
        _run(
            settings_here(**given(tasks=tasks, num_workers=workers, worker_health_port=health_port))
        )
    )


def _run(settings: Settings) -> int:
    from taskflow.app import TaskFlow
    from taskflow.cli import process_logs
    from taskflow.core.errors import ConfigurationError
    from taskflow.garbage import settle
    from taskflow.worker.health import HealthEndpoint
    from taskflow.worker.signals import SIGNALS, StopSignals

    if not settings.num_workers:
        raise ConfigurationError(
            "a worker that may run nothing at once: set TASKFLOW_NUM_WORKERS or --workers to 1 or more"
        )
    service = "long-worker" if settings.worker_queues == "long" else "worker"
    process_logs.configure(settings, service)
    app = TaskFlow(settings, service=service)
    has_left = threading.Event()

    def leave(*_: object) -> None:
        """While it starts there is nothing to be finished. The event is for an exception that gets lost: one that is
        raised in a finalizer goes no further."""
        has_left.set()
        raise SystemExit(0)

    for number in SIGNALS:
        signal.signal(number, leave)
    with ExitStack() as closing:
        if settings.worker_health_port:
            health = HealthEndpoint(settings.host, settings.worker_health_port)
            closing.enter_context(health)
        closing.callback(app.stop)
        app.start()
        settle()
        stopping = _Stopping(app)
        with StopSignals(stopping.stop, stopping.release) as signals:
            if settings.worker_health_port:
                health.report(stopping.worker.snapshot)
            if not has_left.is_set():
                signals.wait()
            app.stop()
    return 1 if stopping.at_once else 0


class _Stopping:
    def __init__(self, app: TaskFlow) -> None:
        assert app.worker is not None
        self._app = app
        self.worker: Worker = app.worker
        self.at_once = False

    def stop(self) -> None:
        self._app.stop_workers()

    def release(self) -> None:
        self.at_once = True
        self.worker.release()
