"""The parent's side of a child process: start it, talk to it, kill it, say how it died.

Both sides send JSON lines over a socket pair (never stdout: handlers print), each followed by as many bytes as its
``body_bytes`` says: a file would need several times its size as JSON, and orjson crashes where memory is short. The
child leads a session of its own, so that whatever the handler starts can be killed with it; it ends by itself when the
socket does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import orjson

from taskflow.core.errors import WorkerCrashedError
from taskflow.logs import get_logger

log = get_logger(__name__)

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from taskflow.worker.child import main; main(int(sys.argv[1]))"
)
_EXIT_SECONDS = 0.5  # from closing its socket to being gone
_REAP_SECONDS = 2.0


class ChildProcess:
    """One child. `send` and `receive` are for the thread that owns it, the rest for any."""

    def __init__(self) -> None:
        """Raises WorkerCrashedError when the operating system cannot start another process."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own code
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as exc:
            ours.close()
            raise WorkerCrashedError(f"no child process could be started: {exc}") from exc
        finally:
            theirs.close()
        self._socket = ours
        self._lines = ours.makefile("rb")
        self._sending = threading.Lock()
        self._ending = threading.Lock()
        self._is_reaped = False
        self.heard_since_request = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """A child that is gone is noticed by `receive`."""
        self.heard_since_request = False
        self.reply(message)

    def reply(self, message: Mapping[str, Any], body: bytes = b"") -> None:
        """`send` while the child works on a request."""
        line = orjson.dumps({**message, "body_bytes": len(body)}) + b"\n"
        with self._sending:
            try:
                self._socket.sendall(line)
                self._socket.sendall(body)
            except OSError:
                pass

    def tell_cancelled(self) -> None:
        """Best effort and never blocking: a child that reads nothing is killed after its grace anyway."""
        if self._sending.acquire(blocking=False):
            try:
                self._socket.send(b'{"type":"cancel"}\n', socket.MSG_DONTWAIT)
            except OSError:
                pass
            finally:
                self._sending.release()

    def receive(self) -> dict[str, Any] | None:
        """The next message, with its ``body``; None when the child is gone, has closed its end or talks nonsense."""
        try:
            line = self._lines.readline()
            message = orjson.loads(line) if line.endswith(b"\n") else None
            if not isinstance(message, dict):
                return None
            size = message.get("body_bytes", 0)
            message["body"] = body = self._lines.read(size) if size else b""
            if len(body) < size:
                return None  # it died in the middle
        except (OSError, ValueError):
            return None
        self.heard_since_request = True
        return message

    def kill(self) -> None:
        """It and everything it started. `receive` returns None from now on."""
        with self._ending:
            if not self._is_reaped:
                self._kill_group()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone

    def how_it_died(self) -> str:
        """E.g. ``killed by SIGKILL`` or ``exit code 3``. For one that has closed its end: if it lives, it is killed."""
        closed_only = False
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            closed_only = True
        self._reap()
        if closed_only:
            return "closed its connection"
        code = self._process.returncode
        if code is None:
            return "cannot be killed"
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")

    def close(self) -> None:
        """Kill it if it lives, and leave nothing of it behind."""
        self._reap()
        self._lines.close()
        self._socket.close()

    def _reap(self) -> None:
        with self._ending:
            if self._is_reaped:
                return
            # Also when it has ended: what it started may live on in its group, whose number nobody can have reused yet.
            self._kill_group()
            try:
                self._process.wait(_REAP_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("worker.child_cannot_be_killed", pid=self._process.pid)
            self._is_reaped = True

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it has ended
