"""What must happen now and then: sending from the outbox, taking over lost tasks; sending again, deleting old ones.

Two threads: nothing that can wait (one purge may take minutes) keeps waiting what others wait for. On either, jobs take
turns of about a second, however much one of them has to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
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
TURN_SECONDS = 1.0  # then the others of the thread have theirs; a batch under way is finished
_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 30.0
_STOP_SECONDS = 0.5


class _Turn:
    """What a job asks between two batches: whether to go on. Remembers having said no."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self.was_cut_short = False
        self._goes_on = goes_on

    def __call__(self) -> bool:
        goes_on = self._goes_on()
        self.was_cut_short = self.was_cut_short or not goes_on
        return goes_on


class _Job:
    """``run`` returns the seconds until it should run again. One that was cut short does so at its next turn."""

    def __init__(self, name: str, run: Callable[[_Turn], float]) -> None:
        self.name = name
        self.due_at = 0.0
        self._run = run
        self._retry_seconds = _FIRST_RETRY_SECONDS

    def run(self, turn: _Turn) -> float:
        """Never raises: a failure is logged, and repeated later and later."""
        try:
            seconds = self._run(turn)
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
            if turn.was_cut_short:
                seconds = 0.0
        return seconds


class _Lane:
    """One thread, for as long as it is not stopped. Of its jobs the one that has been due for longest runs next."""

    def __init__(self, name: str, jobs: Sequence[_Job], monotonic: Callable[[], float]) -> None:
        self._jobs = jobs
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        for job in self._jobs:
            job.due_at = 0.0
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, timeout_seconds: float) -> None:
        self._thread.join(timeout_seconds)

    def wake(self, job: _Job) -> None:
        with self._changed:
            job.due_at = 0.0
            self._changed.notify()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            ends_at = self._monotonic() + TURN_SECONDS
            seconds = job.run(_Turn(partial(self._goes_on, ends_at)))
            with self._changed:
                if job.due_at > 0.0:  # else it was woken meanwhile
                    job.due_at = self._monotonic() + seconds

    def _goes_on(self, ends_at: float) -> bool:
        return not self._stopping and self._monotonic() < ends_at

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
        self._relay = _Job("relay", relay.run_once)
        self._prompt = (self._relay, _every(recovery_seconds, "recovery", recovery.run_once))
        self._patient = (
            _every(RETENTION_SECONDS, "retention", retention.run_once),
            _every(RESENDING_SECONDS, "resending", resending.run_once),
        )
        self._monotonic = monotonic
        self._lanes: tuple[_Lane, ...] = ()

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
        if not self._lanes:
            self._lanes = (
                _Lane("taskflow-background", self._prompt, self._monotonic),
                _Lane("taskflow-housekeeping", self._patient, self._monotonic),
            )
            for lane in self._lanes:
                lane.start()

    def stop(self) -> None:
        """Waits up to half a second for the batches under way; it is safe to end with the process."""
        lanes, self._lanes = self._lanes, ()
        for lane in lanes:
            lane.stop()
        ends_at = self._monotonic() + _STOP_SECONDS
        for lane in lanes:
            lane.join(max(0.0, ends_at - self._monotonic()))

    def wake(self) -> None:
        """Run the relay now."""
        for lane in self._lanes[:1]:
            lane.wake(self._relay)


def _every(seconds: float, name: str, run_once: Callable[[_Turn], int]) -> _Job:
    def run(turn: _Turn) -> float:
        run_once(turn)
        return seconds

    return _Job(name, run)
