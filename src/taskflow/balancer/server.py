"""The process: listeners, signals, and an end in good order."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskflow.balancer.balancer import Balancer
from taskflow.balancer.client_connection import ClientConnection
from taskflow.balancer.health import HealthChecks
from taskflow.balancer.options import BalancerOptions
from taskflow.balancer.redirect import Redirect
from taskflow.balancer.tls import Certificate
from taskflow.balancer.tls_listener import TlsListener
from taskflow.listening import address_of
from taskflow.logs import get_logger
from taskflow.ports.clock import Clock

log = get_logger(__name__)

_SWEEP_SECONDS = 0.1
_BACKLOG = 2_048
_GC_THRESHOLD = 20_000
_LAST_BYTES_SECONDS = 0.2  # for what was written to reach the network before the loop ends


@dataclass(frozen=True, slots=True)
class Listeners:
    """Open sockets. ``redirect``: its clients are sent to HTTPS."""

    main: socket.socket
    redirect: socket.socket | None = None


class BalancerServer:
    """One balancer while it runs. `stop` may be called from its own loop only."""

    def __init__(self, options: BalancerOptions, clock: Clock) -> None:
        self._clock = clock
        self.balancer = Balancer(options, clock)
        self._redirecting: Balancer | None = None
        self._checks = HealthChecks(self.balancer.instances, options.health)
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """The first time in good order, the second time at once."""
        if self._stop_asked.is_set():
            self._hurry.set()
        self._stop_asked.set()

    async def run(self, listeners: Listeners, on_started: Callable[[], None]) -> bool:
        """Until `stop`. Whether all clients were done in time."""
        loop = asyncio.get_running_loop()
        balancer, options = self.balancer, self.balancer.options
        if options.tls is not None:
            balancer.certificate = Certificate(options.tls)
        await self._checks.start()
        servers: list[asyncio.Server | TlsListener] = [await self._serve(listeners.main)]
        if listeners.redirect is not None:
            servers.append(await self._serve_redirect(listeners.redirect, listeners.main))
        sweeping = loop.create_task(self._sweep())
        scheme = "https" if options.tls is not None else "http"
        address = address_of(listeners.main).replace("http", scheme, 1)
        log.info("balancer.started", address=address, instances=len(balancer.instances))
        on_started()
        try:
            await self._stop_asked.wait()
            return await self._drain(servers)
        finally:
            sweeping.cancel()
            await self._checks.stop()
            for instance in balancer.instances:
                instance.close_idle()
            await asyncio.sleep(0)  # for the transports that were just closed
            balancer.access_log.flush()
            log.info("balancer.stopped")

    async def _serve(self, listener: socket.socket) -> asyncio.Server | TlsListener:
        balancer = self.balancer
        if balancer.certificate is not None:
            return TlsListener(balancer, balancer.certificate.context, listener, backlog=_BACKLOG)
        return await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(balancer), sock=listener, backlog=_BACKLOG
        )

    async def _serve_redirect(self, listener: socket.socket, main: socket.socket) -> asyncio.Server:
        """A balancer without instances: the same limits and the same strictness."""
        options = self.balancer.options
        redirecting = self._redirecting = Balancer(
            BalancerOptions(limits=options.limits, timeouts=options.timeouts), self._clock
        )
        redirecting.redirect = Redirect(main.getsockname()[1])
        return await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(redirecting), sock=listener, backlog=_BACKLOG
        )

    async def _drain(self, servers: Sequence[asyncio.Server | TlsListener]) -> bool:
        balancers = [one for one in (self.balancer, self._redirecting) if one is not None]
        log.info("balancer.draining", connections=len(self.balancer.clients))
        for server in servers:
            server.close()
        for balancer in balancers:
            balancer.drain()
        emptied = asyncio.create_task(_emptied(balancers))
        hurry = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait(
                {emptied, hurry},
                timeout=self.balancer.timeouts.drain,
                return_when=asyncio.FIRST_COMPLETED,
            )
            is_clean = emptied.done()
        finally:
            hurry.cancel()
            emptied.cancel()
        left = [client for balancer in balancers for client in balancer.clients.all()]
        for client in left:
            client.abort()
        if left:
            log.warning("balancer.cut_off", connections=len(left))
            await asyncio.sleep(_LAST_BYTES_SECONDS)
        return is_clean

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.balancer.sweep()
            if self._redirecting is not None:
                self._redirecting.sweep()


async def _emptied(balancers: Sequence[Balancer]) -> None:
    for balancer in balancers:
        await balancer.clients.none_left.wait()


def serve(
    options: BalancerOptions,
    clock: Clock,
    listeners: Listeners,
    *,
    on_started: Callable[[], None] = lambda: None,
) -> int:
    """Until SIGTERM or SIGINT; SIGHUP reads configuration file and certificate again. The exit code: 1 when clients
    were cut off. Raises ConfigurationError."""
    if sys.platform == "win32":
        run = asyncio.run
    else:
        import uvloop

        run = uvloop.run
    _raise_file_limit()
    gc.collect()
    gc.freeze()  # as in the API's server: what is loaded by now stays
    gc.set_threshold(_GC_THRESHOLD, *gc.get_threshold()[1:])

    async def main() -> bool:
        server = BalancerServer(options, clock)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        loop.add_signal_handler(signal.SIGHUP, server.balancer.reload)
        return await server.run(listeners, on_started)

    return 0 if run(main()) else 1


def _raise_file_limit() -> None:
    """As many open files as this process may have: two per request in flight."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
