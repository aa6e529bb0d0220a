"""What runs in the processes that get killed: the commands that containers run."""

from __future__ import annotations

import socket

from taskflow.cli.program import program
from tests.acceptance.distributed import handlers  # noqa: F401 - registers the tasks


def api(_channel: socket.socket, *, port: int) -> None:
    program(["api", "--port", str(port)])


def worker(_channel: socket.socket) -> None:
    program(["worker"])
