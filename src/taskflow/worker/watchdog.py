"""The thread that ends attempts whose time is up. It sleeps until something is due."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from taskflow.logs import get_logger

log = get_logger(__name__)


class Watchdog:
    """Calls ``look(now)`` when something is due; it returns the next moment to look at (monotonic seconds).

    Announcing a deadline costs a comparison: only one that comes before `wake_at` needs `sooner`. Deadlines are not
    kept here: ``look`` finds them, so those of attempts that have ended cost nothing.
    """

    def __init__(self, look: Callable[[float], float], monotonic: Callable[[], float]) -> None:
        self._look = look
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._stopping = False
        self.wake_at = math.inf
        self._thread = threading.Thread(target=self._work, name="taskflow-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(1.0)

    def sooner(self, at: float) -> None:
        """Look at ``at``, if not before."""
        with self._changed:
            if at < self.wake_at:
                self.wake_at = at
                self._changed.notify()

    def _work(self) -> None:
        while self._sleep():
            try:
                self.sooner(self._look(self._monotonic()))
            except Exception:  # whatever happened to one attempt, the others still need a watchdog
                log.exception("worker.watchdog_failed")
                self.sooner(self._monotonic() + 1.0)

    def _sleep(self) -> bool:
        with self._changed:
            while not self._stopping and (seconds := self.wake_at - self._monotonic()) > 0:
                self._changed.wait(
                    None if seconds == math.inf else min(seconds, threading.TIMEOUT_MAX)
                )
            # Before looking: whoever starts an attempt from here on sees that no look is planned, and plans one.
            self.wake_at = math.inf
            return not self._stopping
