"""One process of the cluster while it lives: started, heard, signalled, reaped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from taskflow.cluster.process import ProcessSpec

_WATCHED = str(Path(__file__).with_name("watched.py"))
_LONGEST_LINE_BYTES = 65_536
_DRAIN_SECONDS = 1.0  # for the last lines of a process that has ended


class Child:
    """``on_line`` gets each line it writes, ``on_exit`` its exit code once they are all written; both on other threads.

    ``inherited`` descriptors stay open in it; the first is the pipe by which it notices that we are gone.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        *,
        environment: Mapping[str, str],
        inherited: tuple[int, ...],
        on_line: Callable[[str, str], None],
        on_exit: Callable[[int], None],
    ) -> None:
        command = [
            sys.executable,
            "-P",  # what lies beside watched.py is not to be imported by accident
            _WATCHED,
            str(inherited[0]),
            str(int(spec.orphan_signal)),
            spec.entry,
            *spec.arguments,
        ]
        log = spec.log_file.open("ab") if spec.log_file is not None else None
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own code
                command,
                env={**environment, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C is for us, who stop them in order
            )
        finally:
            if log is not None:
                log.close()
        reader: threading.Thread | None = None
        if (output := self._process.stdout) is not None:
            reader = threading.Thread(
                target=_read, args=(output, spec.name, on_line), name=f"read-{spec.name}"
            )
            reader.daemon = True
            reader.start()
        threading.Thread(
            target=self._wait, args=(reader, on_exit), name=f"wait-{spec.name}", daemon=True
        ).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Does nothing when it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """It and everything in its process group."""
        if self._process.returncode is None:
            self._kill_group()

    def _wait(self, reader: threading.Thread | None, on_exit: Callable[[int], None]) -> None:
        code = self._process.wait()
        self._kill_group()  # what it started may live on there
        if reader is not None:
            reader.join(_DRAIN_SECONDS)
        on_exit(code)

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it has ended


def how_it_ended(code: int) -> str:
    """``exit code 3`` or ``killed by SIGKILL``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _read(output: IO[bytes], name: str, on_line: Callable[[str, str], None]) -> None:
    with output:
        while line := output.readline(_LONGEST_LINE_BYTES):
            on_line(name, line.decode(errors="replace").rstrip("\r\n"))
