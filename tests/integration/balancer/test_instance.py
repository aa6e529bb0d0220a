"""The instance that these tests put behind the balancer."""

from __future__ import annotations

import gc
import socket
from contextlib import ExitStack

from tests.support.instance import Instance, running


def test_one_that_stops_while_clients_connect_leaves_no_connection_open() -> None:
    """Unclosed ones would be a ResourceWarning in whatever test runs when they are collected."""
    with ExitStack() as clients:
        for _ in range(20):
            with running(Instance()) as instance:
                for _ in range(3):
                    address = ("127.0.0.1", instance.port)
                    clients.enter_context(socket.create_connection(address))
    gc.collect()
