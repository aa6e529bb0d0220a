"""Serving the API: sockets, signals, and an end in good order."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from taskflow.api.dependencies import Instance
from taskflow.garbage import settle
from taskflow.listening import address_of, listen
from taskflow.logs import get_logger
from taskflow.settings import Settings

log = get_logger(__name__)

_KEEP_ALIVE_SECONDS = (
    75  # longer than the idle timeout of AWS load balancers (60 s), so that they close first
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    app: FastAPI,
    settings: Settings,
    listener: socket.socket | None = None,
    *,
    on_signal: Callable[[int], None] | None = None,
    has_to_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish the requests being answered and return.

    While it stops, `/health` answers 503 and held requests (`?wait=`) are answered at once; after SIGTERM it serves on
    for ``drain_seconds`` first. A second signal ends what still runs. ``on_signal`` is called in the signal handler,
    with 1 at the first signal, 2 at the second. Signals are handled only in the main thread. ``has_to_stop`` is asked
    once they are: whether one came before.
    Raises CannotListenError.
    """
    listener = listener or listen(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,  # the middleware writes one line per request, with its id and duration
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_seconds)),
    )
    config.load()
    settle()
    with listener:
        server = _Server(config, app.state.instance, on_signal, has_to_stop)
        server.drain_seconds = settings.drain_seconds
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Uvicorn, except that signals start TaskFlow's drain and are not raised again afterwards."""

    def __init__(
        self,
        config: uvicorn.Config,
        instance: Instance,
        on_signal: Callable[[int], None] | None,
        has_to_stop: Callable[[], bool],
    ) -> None:
        super().__init__(config)
        self._instance = instance
        self._on_signal = on_signal
        self._has_to_stop = has_to_stop
        self._signals = 0
        self.drain_seconds = 0.0  # from saying that it stops to stopping
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        for listener in sockets or ():
            log.info("server.started", address=address_of(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._instance.draining.set()
        if self.drain_seconds and not self.force_exit:
            log.info("server.draining", seconds=self.drain_seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self.drain_seconds)
        await super().shutdown(sockets)
        log.info("server.stopped")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As Uvicorn's, but without raising them again: what follows `serve` stops workers in good order."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            if self._has_to_stop():
                self.handle_exit(signal.SIGTERM, None)
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if sig == signal.SIGINT:
            self.drain_seconds = 0.0  # Ctrl-C: somebody waits, and nobody takes over
        self.should_exit = True
        self.force_exit = self._signals > 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._instance.draining.set)
            if self.force_exit:
                self._loop.call_soon_threadsafe(self._hurry.set)
        if self._on_signal is not None:
            self._on_signal(self._signals)
