"""Accepts clients that speak TLS. Who still owes the handshake counts, too: each costs 50 KiB before saying a word."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

from taskflow.balancer.client_connection import ClientConnection
from taskflow.logs import get_logger

if TYPE_CHECKING:
    from taskflow.balancer.balancer import Balancer

log = get_logger(__name__)

_PAUSE_SECONDS = 0.1


class TlsListener:
    """Listens from now on, until `close`. Who is one too many is let go: there is no way yet to say why."""

    def __init__(
        self, shared: Balancer, context: ssl.SSLContext, listener: socket.socket, *, backlog: int
    ) -> None:
        self._shared = shared
        self._context = context
        self._listener = listener
        self._handshakes: set[asyncio.Task[None]] = set()  # the loop itself would forget them
        listener.setblocking(False)
        listener.listen(backlog)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Nobody is accepted any more; handshakes under way may end."""
        self._accepting.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                try:
                    client, peer = await loop.sock_accept(self._listener)
                except OSError as exc:  # it is gone already, or there are too many open files
                    log.warning("balancer.accept_failed", error=str(exc))
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                address = str(peer[0])
                refused = self._shared.clients.begin_handshake(address)
                if refused is not None:
                    self._shared.refused(refused, address)
                    client.close()
                    continue
                handshake = loop.create_task(self._shake_hands(client, address))
                self._handshakes.add(handshake)
                handshake.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, client: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: ClientConnection(self._shared),
                client,
                ssl=self._context,
                ssl_handshake_timeout=self._shared.timeouts.head,
            )
        except OSError:  # it speaks no TLS, none of ours, or nothing at all
            client.close()
        finally:
            self._shared.clients.end_handshake(address)
