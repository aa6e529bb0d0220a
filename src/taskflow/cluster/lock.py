"""One cluster per home: its directory is locked for as long as any of its processes lives."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taskflow.core.errors import TaskFlowError

_PATIENCE_SECONDS = 5.0  # for the processes of one that was killed a moment ago


class ClusterRunningError(TaskFlowError):
    """Another cluster uses this home."""

    code = "cluster_running"


@contextmanager
def locked(directory: Path) -> Iterator[int]:
    """The descriptor of the lock. Processes that inherit it hold it, too. Raises ClusterRunningError."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _is_taken(descriptor):
            if time.monotonic() > deadline:
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                raise ClusterRunningError(
                    f"a cluster runs in {directory} already (process {owner}): stop it, or choose another --home"
                )
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
