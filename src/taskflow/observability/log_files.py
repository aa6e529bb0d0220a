"""Logs of the processes on this machine, kept in files for `taskflow logs`: what CloudWatch does on AWS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from taskflow.logs import get_logger

log = get_logger("taskflow.logs")

_SEGMENTS = (
    16  # a file ends at this part of what is kept, so that the oldest can go without the newest
)
_SMALLEST_SEGMENT_BYTES = 4_096
_TRY_AGAIN_SECONDS = 30.0


class LogFiles:
    """One process's files ``{service}-{pid}-{n}.jsonl`` in a directory that it shares with others.

    Whoever begins a file deletes the oldest, of whatever process, so that all of them together stay below
    ``keep_bytes`` (and a sixteenth of it for each further process that writes). One write per line, with the lock of
    the logging handler held: a line is there when the process is killed. What cannot be written is left out: a full
    disk ends no process.
    """

    def __init__(
        self,
        directory: Path,
        service: str,
        *,
        keep_bytes: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._stem = f"{service}-{os.getpid()}"
        self._keep_bytes = keep_bytes
        self._segment_bytes = max(_SMALLEST_SEGMENT_BYTES, keep_bytes // _SEGMENTS)
        self._monotonic = monotonic
        self._file: int | None = None
        self._left_bytes = 0
        self._number = 0
        self._not_before = 0.0

    def write(self, line: str) -> None:
        """Never raises."""
        body = line.encode(errors="replace") + b"\n"
        try:
            # No link: another process took it for old. What is written into it now would be gone.
            if (
                self._file is None
                or self._left_bytes < len(body)
                or not os.fstat(self._file).st_nlink
            ):
                if self._monotonic() < self._not_before:
                    return
                self._begin()
            assert self._file is not None
            os.write(self._file, body)
            self._left_bytes -= len(body)
        except OSError as exc:
            self.close()
            self._not_before = self._monotonic() + _TRY_AGAIN_SECONDS
            log.warning("logs.not_kept", directory=str(self._directory), error=str(exc))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _begin(self) -> None:
        self.close()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room()
        while self._file is None:
            self._number += 1
            path = self._directory / f"{self._stem}-{self._number}.jsonl"
            try:
                self._file = os.open(
                    path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600
                )
            except FileExistsError:
                continue  # of a process that had the same id
        self._left_bytes = self._segment_bytes

    def _make_room(self) -> None:
        files = _files(self._directory)
        total = sum(size for _, size, _ in files) + self._segment_bytes
        for _, size, path in files:
            if total <= self._keep_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def lines_of(directory: Path, *, since: datetime) -> Iterator[bytes]:
    """Of every file that was written to since then; in the order in which each process wrote them."""
    earliest = since.timestamp()
    for written_at, _, path in _files(directory):
        if written_at >= earliest:
            try:
                with path.open("rb") as file:
                    yield from file
            except FileNotFoundError:
                continue  # made room meanwhile


def _files(directory: Path) -> list[tuple[float, int, Path]]:
    """When last written to, size, path; the oldest first."""
    found = []
    for path in directory.glob("*.jsonl"):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((state.st_mtime, state.st_size, path))
    return sorted(found)
