"""Liveness by file locks: the kernel gives up a dead process's locks, whatever it died of."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from taskflow.core.errors import StoreReadOnlyError


class FileLiveness:
    """For processes that share a directory on one machine's own disk. A worker without a file here is not judged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def hold(self, worker_id: str) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                self._path(worker_id), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
            )
        except OSError as exc:
            raise StoreReadOnlyError(
                f"{self._directory} cannot be written: {exc.strerror}"
            ) from exc
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[worker_id] = descriptor

    def dead(self, worker_ids: Sequence[str]) -> list[str]:
        return [
            worker_id
            for worker_id in worker_ids
            if worker_id not in self._held and self._is_free(worker_id)
        ]

    def release(self, worker_id: str) -> None:
        descriptor = self._held.pop(worker_id, None)
        if descriptor is not None:
            os.close(descriptor)

    def forget(self, worker_ids: Sequence[str]) -> None:
        for worker_id in worker_ids:
            try:
                self._path(worker_id).unlink(missing_ok=True)
            except OSError:
                continue  # a file that stays is in nobody's way

    def _is_free(self, worker_id: str) -> bool:
        path = self._path(worker_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _path(self, worker_id: str) -> Path:
        return self._directory / f"{worker_id}.lock"


class UnknownLiveness:
    """Where nothing is known about other machines' processes: their leases have to run out."""

    def hold(self, worker_id: str) -> None:
        """Nothing to hold."""

    def dead(self, worker_ids: Sequence[str]) -> list[str]:
        return []

    def forget(self, worker_ids: Sequence[str]) -> None:
        """Nothing to forget."""

    def release(self, worker_id: str) -> None:
        """Nothing to release."""
