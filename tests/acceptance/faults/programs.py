"""What runs in the other processes of the fault tests."""

from __future__ import annotations

import resource
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable

from taskflow.app import TaskFlow
from taskflow.cli.program import program
from taskflow.core.errors import StoreUnavailableError
from tests.acceptance.faults import handlers

PATIENCE_SECONDS = 120.0


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


def fill(channel: socket.socket) -> None:
    """Submits while no file may grow beyond a limit; when the limit is gone everything must complete."""
    with TaskFlow() as app:
        database = app.settings.home / "taskflow.db"
        accepted = [app.submit("echo", "x")]
        accepted[0].result(PATIENCE_SECONDS)
        files = [database, database.with_name("taskflow.db-wal")]
        _limit_files(max(file.stat().st_size for file in files) + 500_000)
        if _is_refused(lambda: app.submit("echo", "x" * 3_000_000)):
            channel.send(b"large payloads refused")
        accepted.append(app.submit("echo", "x"))
        channel.send(b"small tasks go on")
        while not _is_refused(lambda: accepted.append(app.submit("echo", "x" * 10_000))):
            pass
        channel.send(b"small tasks refused")
        _limit_files(resource.RLIM_INFINITY)
        for handle in accepted:
            handle.result(PATIENCE_SECONDS)
        channel.send(b"all completed")
        assert len(app.list(limit=200).items) == min(200, len(accepted))


def _limit_files(size: int) -> None:
    """Writing beyond it fails with EFBIG; Python ignores the signal that goes with it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _is_refused(submit: Callable[[], object]) -> bool:
    try:
        submit()
    except StoreUnavailableError:
        return True
    return False


def command(channel: socket.socket, *, arguments: list[str]) -> None:
    """The command line, with what it prints on the channel's log."""
    sys.argv = ["taskflow", *arguments]
    program(arguments)
