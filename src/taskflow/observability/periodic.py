"""The thread that writes metrics now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable

from taskflow.core.errors import TaskFlowError
from taskflow.logs import get_logger
from taskflow.observability.metrics import Metrics

log = get_logger(__name__)

_JOIN_SECONDS = 1.0


class PeriodicMetrics:
    """``measure`` is called before each writing, and may fail: the others are written all the same."""

    def __init__(
        self, metrics: Metrics, *, seconds: float, measure: Callable[[], None] | None = None
    ) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._measure = measure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="taskflow-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Writes what has come together. Waits a second at most for a measurement under way."""
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)
        self._metrics.flush()

    def _work(self) -> None:
        while not self._stopping.wait(self._seconds):
            if self._measure is not None:
                try:
                    self._measure()
                except TaskFlowError as exc:
                    log.warning("metrics.not_measured", error=exc.detail)
                except Exception:  # a thread that ends would be missed by nobody
                    log.exception("metrics.not_measured")
            self._metrics.flush()
