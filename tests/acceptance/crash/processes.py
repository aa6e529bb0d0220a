"""Processes to be killed: started within milliseconds, talked to over a socket, ended without mercy."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 120.0  # until a test gives up waiting for a process that should say something
_LONGEST_MESSAGE = 65_536


class Process:
    """One that `Nursery.start` made. What it said before it was killed can still be heard afterwards."""

    def __init__(self, nursery: Nursery, pid: int, channel: socket.socket, log: Path) -> None:
        self._nursery = nursery
        self.pid = pid
        self.channel = channel
        self.log = log
        self.exit_code: int | None = None

    def hear(self, timeout_seconds: float = PATIENCE_SECONDS) -> str | None:
        """Its next message; None when it is gone and has no more to say. Raises TimeoutError."""
        if not select.select([self.channel], [], [], timeout_seconds)[0]:
            raise TimeoutError(f"process {self.pid} is silent; its log ends:\n{self.log_tail()}")
        try:
            message = self.channel.recv(_LONGEST_MESSAGE).decode()
        except ConnectionResetError:
            return None
        return message or None

    def expect(self, message: str) -> None:
        """Its next message must be this one."""
        heard = self.hear()
        assert heard == message, f"expected {message!r}, heard {heard!r}:\n{self.log_tail()}"

    def tell(self, message: str) -> None:
        self.channel.send(message.encode())

    def kill(self) -> None:
        """`kill -9`; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def suspend(self) -> None:
        """Returns once none of its threads runs."""
        self.signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.pid}/task")
        while any(_state(thread) != "T" for thread in threads.iterdir()):
            pass

    def stop(self) -> None:
        """Ask it to end in good order."""
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        if self.exit_code is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Until it has ended by itself; its exit code, or minus the signal's number."""
        if self.exit_code is None:
            self.exit_code = self._nursery.reap(self.pid)
        return self.exit_code

    def rest(self) -> Iterator[str]:
        """What it still had said before its end."""
        while (message := self.hear()) is not None:
            yield message

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-6_000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.channel.close()


class Nursery:
    """Starts processes through the fork server."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        assert control.recv(_LONGEST_MESSAGE) == b"ready"

    def start(
        self,
        call: str,
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        powerless: bool = False,
        **arguments: Any,
    ) -> Process:
        """Run ``module:function(channel, **arguments)`` in a process of its own. ``powerless``: even root may not
        write what permissions say it may not."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "call": call,
            "arguments": arguments,
            "environment": dict(environment or {}),
            "log": str(log),
            "powerless": powerless,
        }
        with theirs:
            socket.send_fds(self._control, [json.dumps(request).encode()], [theirs.fileno()])
            pid = int(self._control.recv(_LONGEST_MESSAGE))
        return Process(self, pid, ours, log)

    def reap(self, pid: int) -> int:
        self._control.send(json.dumps({"reap": pid}).encode())
        return int(self._control.recv(_LONGEST_MESSAGE))


def _state(thread: Path) -> str:
    """One letter, proc(5); the name before it may contain anything."""
    return thread.joinpath("stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def nursery() -> Iterator[Nursery]:
    """One fork server; everything it started ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        script = Path(__file__).with_name("fork_server.py")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TASKFLOW_")
        }
        server = subprocess.Popen(
            [sys.executable, str(script), str(theirs.fileno())],
            env={**environment, "PYTHONPATH": str(ROOT)},
            cwd=ROOT / "tests",
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            yield Nursery(ours)
        finally:
            ours.close()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
