"""The connections from clients, and how many there may be."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from taskflow.balancer.options import Limits
from taskflow.balancer.problems import RefusedError

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.forwarding import TrustedProxies

_RETRY_SECONDS = 1.0


class Clients:
    def __init__(self, limits: Limits, trusted: TrustedProxies) -> None:
        self._limits = limits
        self._trusted = trusted
        self._connections: set[ClientConnection] = set()
        self._by_address: dict[str, int] = {}
        self._shaking_by_address = Counter[str]()
        self.accepted_total = 0
        self.none_left = asyncio.Event()
        self.none_left.set()

    def __len__(self) -> int:
        return len(self._connections)

    def __contains__(self, connection: ClientConnection) -> bool:
        return connection in self._connections

    def all(self) -> list[ClientConnection]:
        return list(self._connections)

    def admit(self, connection: ClientConnection, address: str) -> RefusedError | None:
        """Counts it, or says why not."""
        count = self._by_address.get(address, 0)
        refused = self._refusal(len(self._connections), count, address)
        if refused is not None:
            return refused
        self._by_address[address] = count + 1
        self._connections.add(connection)
        self.none_left.clear()
        self.accepted_total += 1
        return None

    def begin_handshake(self, address: str) -> RefusedError | None:
        """Counts it, or says why not: as many may owe theirs as may be connected, so that those who wait for nothing
        keep out nobody who is connected already."""
        count = self._shaking_by_address[address]
        refused = self._refusal(self._shaking_by_address.total(), count, address)
        if refused is None:
            self._shaking_by_address[address] = count + 1
        return refused

    def end_handshake(self, address: str) -> None:
        self._shaking_by_address[address] -= 1
        if not self._shaking_by_address[address]:
            del self._shaking_by_address[address]

    def leave(self, connection: ClientConnection, address: str) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self.none_left.set()
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]

    def _refusal(self, all_count: int, count: int, address: str) -> RefusedError | None:
        """One address of a trusted proxy stands for many clients."""
        limits = self._limits
        if all_count >= limits.max_connections:
            return RefusedError(
                "too_many_connections",
                f"{limits.max_connections} connections are open (TASKFLOW_BALANCER_MAX_CONNECTIONS)",
                retry_after_seconds=_RETRY_SECONDS,
            )
        most = limits.max_client_connections
        if most and count >= most and address not in self._trusted:
            return RefusedError(
                "too_many_connections",
                f"{most} connections from one address (TASKFLOW_BALANCER_MAX_CLIENT_CONNECTIONS)",
                retry_after_seconds=_RETRY_SECONDS,
            )
        return None
