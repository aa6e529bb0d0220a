"""The thread for what must happen now and then: sending from the outbox, taking over lost tasks, deleting old ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from taskflow.core.errors import StoreUnavailableError
from taskflow.logs import get_logger
from taskflow.services.recovery import Recovery
from taskflow.services.relay import Relay
from taskflow.services.resending import Resending
from taskflow.services.retention import Retention

if TYPE_CHECKING:
    from taskflow.bootstrap import Runtime

log = get_logger(__name__)

RETENTION_SECONDS = 60.0
RESENDING_SECONDS = 600.0
MOST_RECOVERY_SECONDS = 10.0
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0


class _Job:
    """``run`` returns the seconds until it should run again."""

    def __init__(self, name: str, run: Callable[[], float]) -> None:
        self.name = name
        self.due_at = 0.0
        self._run = run
        self._retry_seconds = _FIRST_RETRY_SECONDS

    def run(self) -> float:
        """Never raises: a failure is logged, and repeated later and later."""
        try:
            seconds = self._run()
        except Exception as exc:  # one failure must not end what keeps every promise
            seconds = self._retry_seconds
            self._retry_seconds = min(_LONGEST_RETRY_SECONDS, 2 * seconds)
            is_expected = isinstance(exc, StoreUnavailableError)
            log.warning(
                "background.failed",
                job=self.name,
                error=str(exc),
                retry_in_seconds=seconds,
                exc_info=None if is_expected else exc,
            )
        else:
            self._retry_seconds = _FIRST_RETRY_SECONDS
        return seconds


class Background:
    """Each job runs at the start, then at its own interval. May be started again after `stop`."""

    def __init__(
        self,
        relay: Relay,
        recovery: Recovery,
        retention: Retention,
        resending: Resending,
        *,
        lease_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        recovery_seconds = min(max(1.0, lease_seconds / 3), MOST_RECOVERY_SECONDS)

        def recover() -> float:
            recovery.run_once()
            return recovery_seconds

        def retain() -> float:
            retention.run_once()
            return RETENTION_SECONDS

        def resend() -> float:
            resending.run_once()
            return RESENDING_SECONDS

        self._relay = _Job("relay", relay.run_once)
        self._jobs = (
            self._relay,
            _Job("recovery", recover),
            _Job("retention", retain),
            _Job("resending", resend),
        )
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    @classmethod
    def from_runtime(cls, runtime: Runtime) -> Background:
        return cls(
            runtime.relay,
            runtime.recovery,
            runtime.retention,
            runtime.resending,
            lease_seconds=runtime.settings.lease_seconds,
            monotonic=runtime.clock.monotonic,
        )

    def start(self) -> None:
        if self._thread is None:
            self._stopping = False
            for job in self._jobs:
                job.due_at = 0.0
            self._thread = threading.Thread(
                target=self._work, name="taskflow-background", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Waits up to half a second for a job under way; it is safe to end with the process."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(0.5)
            self._thread = None

    def wake(self) -> None:
        """Run the relay now."""
        with self._changed:
            self._relay.due_at = 0.0
            self._changed.notify()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            seconds = job.run()
            with self._changed:
                if job.due_at > 0.0:  # else it was woken meanwhile
                    job.due_at = self._monotonic() + seconds

    def _next(self) -> _Job | None:
        """Waits until a job is due; None when it is time to end."""
        with self._changed:
            while not self._stopping:
                job = min(self._jobs, key=lambda job: job.due_at)
                seconds = job.due_at - self._monotonic()
                if seconds <= 0:
                    job.due_at = self._monotonic()
                    return job
                self._changed.wait(seconds)
            return None
