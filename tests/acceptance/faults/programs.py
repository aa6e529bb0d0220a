"""What runs in the other processes of the fault tests."""

from __future__ import annotations

import signal
import socket
import sqlite3
import sys

from taskflow.app import TaskFlow
from taskflow.cli.program import program
from tests.acceptance.faults import handlers


def work(channel: socket.socket) -> None:
    """Works until it is told to stop."""
    handlers.channel = channel
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with TaskFlow():
        signal.sigwait({signal.SIGTERM})


def hold_write_lock(channel: socket.socket, *, database: str) -> None:
    """Until it is told to let go, nobody else can write."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    channel.send(b"locked")
    channel.recv(100)
    connection.execute("ROLLBACK")
    channel.send(b"unlocked")


def command(channel: socket.socket, *, arguments: list[str]) -> None:
    """The command line, with what it prints on the channel's log."""
    sys.argv = ["taskflow", *arguments]
    program(arguments)
