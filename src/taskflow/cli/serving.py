"""`taskflow dev` and `taskflow api`: the HTTP server, with workers beside it or without."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.worker.worker import Worker


def run(app: TaskFlow, *, service: str, greet: Callable[[str], None]) -> int:
    """Serve ``app``'s API until a signal, and return the exit code. ``greet`` gets the address once all is well."""
    from taskflow.api.app import create_app
    from taskflow.api.server import serve
    from taskflow.cli import process_logs
    from taskflow.listening import address_of, listen

    settings = app.settings
    process_logs.configure(settings, service)
    # Bound first: a port that is taken is the likeliest mistake, and the cheapest to find out.
    with listen(settings.host, settings.port) as listener:
        stopping = _Stopping(app)
        stopping.handle(stopping.leave)
        try:
            app.start()
            stopping.handle(stopping.note)
            api = create_app(app.runtime, worker=app.worker)
            greet(address_of(listener))
            serve(
                api,
                settings,
                listener,
                on_signal=stopping.count,
                has_to_stop=lambda: stopping.has_left,
            )
        finally:
            stopping.handle(stopping.release)
            app.stop()
    return 1 if stopping.at_once else 0


class _Stopping:
    """The first signal stops in good order, the second lets go of everything that still runs."""

    def __init__(self, app: TaskFlow) -> None:
        self._app = app
        self._worker: Worker | None = None
        self.has_left = False
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
        self._worker = self._app.worker
        if self._worker is not None:
            print("stopping: what runs may finish; a second signal gives it back", file=sys.stderr)

    def leave(self) -> None:
        """While it starts. The exception may get lost, a finalizer lets none out: `has_left` stops the server then."""
        self.has_left = True
        raise SystemExit(0)

    def note(self) -> None:
        """Once all is there, and before the server handles signals: it will stop as soon as it does."""
        self.has_left = True

    def release(self) -> None:
        if not self.at_once:
            self.at_once = True
            if self._worker is not None:
                # Not here: a signal handler must not wait for a lock that the interrupted code may hold.
                threading.Thread(target=self._worker.release, name="taskflow-release").start()
