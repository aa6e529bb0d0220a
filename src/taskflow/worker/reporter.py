"""Tells the store every few seconds that this worker is there, for people and for recovery."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.logs import get_logger
from taskflow.ports.metadata import WorkerRecord, WorkerStore

log = get_logger(__name__)

REPORT_SECONDS = 10.0


class Reporter:
    """``details`` is asked before every report. A report that fails is repeated with the next."""

    def __init__(
        self, workers: WorkerStore, worker_id: str, details: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._workers = workers
        self._worker_id = worker_id
        self._details = details
        self._hostname = socket.gethostname()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="taskflow-reporter", daemon=True)

    def start(self) -> None:
        self.report("running")
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(1.0)
        self.report("stopped")

    def report(self, status: str) -> None:
        record = WorkerRecord(
            self._worker_id, self._hostname, os.getpid(), 0, 0, status, self._details()
        )
        try:
            self._workers.report(record)
        except Exception as exc:  # noqa: BLE001 - what a worker says of itself must never stop it from working
            log.warning("worker.report_failed", status=status, error=str(exc))

    def _work(self) -> None:
        while not self._stopping.wait(REPORT_SECONDS):
            self.report(str(self._details()["status"]))
