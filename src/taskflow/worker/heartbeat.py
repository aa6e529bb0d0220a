"""The thread that keeps leases alive, writes progress and hears of cancellations made elsewhere."""

from __future__ import annotations

import math
import threading

from taskflow.core.errors import AttemptCancelledError, StoreUnavailableError, WorkerCrashedError
from taskflow.logs import get_logger
from taskflow.ports.metadata import HeartbeatResult
from taskflow.services.execution import Execution
from taskflow.worker.pool import Pool, find
from taskflow.worker.run import Run

log = get_logger(__name__)

BEAT_SECONDS = 1.0  # at most: cancellations made by other processes are noticed within it
PROGRESS_SECONDS = 0.25  # at least, between two writes of progress


class Heartbeat:
    """One call per beat for all attempts that have been here for a beat; short ones never need one.

    It sleeps while nothing is leased. An attempt claimed just after a beat is first extended at the next but one, after
    at most two thirds of its lease.
    """

    def __init__(self, pool: Pool, execution: Execution) -> None:
        self._pool = pool
        self._execution = execution
        self._beat_seconds = min(pool.options.lease_seconds / 3, BEAT_SECONDS)
        self._next_beat = math.inf
        self._next_write = 0.0  # of progress, not before
        self._has_progress = False
        self._stopping = False
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="taskflow-heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(1.0)

    def attempts_claimed(self) -> None:
        if self._next_beat == math.inf:
            with self._changed:
                self._next_beat = self._pool.monotonic() + self._beat_seconds
                self._changed.notify()

    def progress_made(self) -> None:
        if not self._has_progress:
            with self._changed:
                self._has_progress = True
                self._changed.notify()

    def write_progress(self, runs: list[Run]) -> None:
        """What has not been written yet of these, before their outcomes are. Raises StoreUnavailableError."""
        if any(run.has_unwritten_progress for run in runs):
            self._write(runs, only_progress=True)

    def _work(self) -> None:
        while self._sleep():
            now = self._pool.monotonic()
            runs = self._due(now)
            try:
                self._beat(runs)
            except StoreUnavailableError as exc:
                log.warning("worker.heartbeat_failed", attempts=len(runs), error=exc.detail)
                self._has_progress = True
            except Exception:  # without heartbeats every lease runs out
                log.exception("worker.heartbeat_failed", attempts=len(runs))

    def _due(self, now: float) -> list[Run]:
        is_beat = now >= self._next_beat
        if is_beat:
            # Before looking: whoever claims from here on sees that no beat is planned, and plans one.
            self._next_beat = math.inf
        self._has_progress = False
        self._next_write = now + PROGRESS_SECONDS
        runs = list(self._pool.leased)
        if not is_beat:
            return [run for run in runs if run.has_unwritten_progress]
        if runs:
            with self._changed:
                self._next_beat = min(self._next_beat, now + self._beat_seconds)
        old_enough = now - 0.9 * self._beat_seconds
        return [run for run in runs if run.claimed_at <= old_enough or run.has_unwritten_progress]

    def _sleep(self) -> bool:
        with self._changed:
            while not self._stopping:
                wake_at = (
                    min(self._next_beat, self._next_write)
                    if self._has_progress
                    else self._next_beat
                )
                seconds = wake_at - self._pool.monotonic()
                if seconds <= 0:
                    break
                self._changed.wait(None if seconds == math.inf else seconds)
            return not self._stopping

    def _beat(self, runs: list[Run]) -> None:
        if not runs:
            return
        result = self._write(runs)
        lost = find(runs, result.lost)
        self._execution.keep_hidden([run.attempt for run in runs if run not in lost])
        for run in find(runs, result.cancel_requested):
            self._pool.end(
                run,
                AttemptCancelledError("the task was cancelled while it ran"),
                grace_seconds=self._pool.options.cancel_grace_seconds,
            )
        newest = {run.attempt.task.task_id: run for run in sorted(runs, key=_attempt_number)}
        for run in lost:
            # A task taken over from this worker may have come back to it: then only the older attempt is lost.
            is_older = newest[run.attempt.task.task_id] is not run
            is_alone = (
                sum(other.attempt.task.task_id == run.attempt.task.task_id for other in lost) == 1
            )
            if run in self._pool.leased and (is_older or is_alone):  # not finished meanwhile
                self._pool.end(run, WorkerCrashedError("its lease was lost"))

    def _write(self, runs: list[Run], *, only_progress: bool = False) -> HeartbeatResult:
        """One at a time: what an attempt reported last is written last."""
        with self._writing:
            written = {run: run.progress for run in runs if run.has_unwritten_progress}
            progress = {
                run.attempt.task.task_id: value
                for run, value in written.items()
                if value is not None
            }
            told = written if only_progress else runs
            result = self._execution.heartbeat([run.attempt for run in told], progress)
            for run, value in written.items():
                run.written_progress = value
        return result


def _attempt_number(run: Run) -> int:
    return run.attempt.task.attempt
