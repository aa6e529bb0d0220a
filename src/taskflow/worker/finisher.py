"""The thread that writes outcomes: while one batch commits, the next gathers."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Empty

from taskflow.core.errors import StatementTimeoutError, StoreUnavailableError
from taskflow.logs import get_logger
from taskflow.ports.metadata import Outcome
from taskflow.services.batch_size import BatchSize
from taskflow.services.execution import Execution
from taskflow.worker.backoff import Backoff
from taskflow.worker.heartbeat import Heartbeat
from taskflow.worker.pool import MAX_UNFINISHED, Pool
from taskflow.worker.run import Run

log = get_logger(__name__)

MAX_BATCH = 500
_GATHER_SECONDS = 0.002  # at most, for others whose attempts end
_CONTENTION_SECONDS = 1.0  # longer than any transaction of TaskFlow's own holds a task

Done = tuple[Run, Outcome]


class Finisher:
    """An outcome is kept until it is written; those whose tasks, or what fails with them, somebody else's transaction
    holds are tried less and less often, and no others wait with them. Only at the end of `stop` is what the store still
    refuses given up: its leases run out, and other workers take the tasks over."""

    def __init__(self, pool: Pool, execution: Execution, heartbeat: Heartbeat) -> None:
        self._pool = pool
        self._execution = execution
        self._heartbeat = heartbeat
        self._backoff = Backoff()
        self._contention = Backoff(first_seconds=0.01, cap_seconds=0.64)
        self._locked_since: float | None = None
        self._contention_told = False
        self._gives_up = False
        self._at_once = BatchSize(MAX_BATCH)
        self._writing = threading.Lock()
        self._write_seconds = 0.0  # what the last transaction took
        self._thread = threading.Thread(target=self._work, name="taskflow-finisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Write what there is, and end."""
        self._pool.outcomes.put(None)
        self._thread.join(timeout_seconds)
        self._gives_up = True
        self._backoff.cancel()
        self._thread.join(1.0)

    def write_here(self, run: Run, outcome: Outcome) -> bool:
        """On the calling thread: a slot with nothing else to do is quicker than a thread that has to wake up.

        False: the finisher has something to do anyway, or it could not be written. The finisher is to do it then.
        """
        if self._pool.outcomes.qsize() or not self._writing.acquire(blocking=False):
            return False
        batch = [(run, outcome)]
        try:
            if self._write(batch):
                return False
        except Exception:  # noqa: BLE001 - the finisher tries again, and says what is wrong
            return False
        finally:
            self._writing.release()
        self._forget(batch)
        return True

    def _work(self) -> None:
        ending = False
        locked: list[Done] = []  # by somebody else's transaction; the others go on
        again_at = 0.0
        while not ending or (locked and not self._gives_up):
            wait_seconds = max(0.0, again_at - self._pool.monotonic()) if locked else None
            gathered = self._gather(wait_seconds=wait_seconds)
            ending = ending or None in gathered
            batch = [done for done in gathered if done is not None]
            is_due = self._pool.monotonic() >= again_at
            if is_due:
                batch, locked = locked + batch, []
            if batch:
                left = self._finish(batch)
                locked += left
                runs_left = {run for run, _ in left}
                self._forget([done for done in batch if done[0] not in runs_left])
            if is_due:
                again_at = self._pool.monotonic() + self._contention_seconds(locked)
        if locked:
            _say_given_up(locked)

    def _gather(self, *, wait_seconds: float | None) -> list[Done | None]:
        """What has ended; nothing if that is nothing within ``wait_seconds`` (None: for as long as it takes)."""
        outcomes = self._pool.outcomes
        try:
            gathered = [outcomes.get(timeout=wait_seconds)]
        except Empty:
            return []
        if self._pool.waiting:
            # More are about to end, and a small transaction takes about as long as a large one. At most half of
            # the time is spent on outcomes: claims and submissions need the store, too.
            time.sleep(min(self._write_seconds, _GATHER_SECONDS))
        # There is no other consumer: as many as there are can be taken without waiting.
        return gathered + [outcomes.get() for _ in range(min(outcomes.qsize(), MAX_BATCH - 1))]

    def _finish(self, batch: Sequence[Done]) -> list[Done]:
        """Returns those that are to be given again."""
        parts = self._at_once.parts(batch, self._persist)
        return [done for _, locked in parts for done in locked]

    def _persist(self, batch: Sequence[Done]) -> list[Done]:
        """`_write`, for as long as it takes. Raises StatementTimeoutError when less at once may do."""
        while not self._gives_up:
            try:
                with self._writing:
                    locked = self._write(batch)
            except StoreUnavailableError as exc:
                if isinstance(exc, StatementTimeoutError) and len(batch) > 1:
                    raise
                log.warning(
                    "worker.finish_failed",
                    outcomes=len(batch),
                    error=exc.detail,
                    retry_in_seconds=self._backoff.seconds,
                )
                self._backoff.wait()
            except Exception:  # one outcome that cannot be written must not keep back the others
                log.exception("worker.finish_failed", outcomes=len(batch))
                if len(batch) == 1:
                    return []
                return [left for done in batch for left in self._persist([done])]
            else:
                self._backoff.reset()
                return locked
        _say_given_up(batch)
        return []

    def _write(self, batch: Sequence[Done]) -> list[Done]:
        """Returns those that somebody else's transaction holds."""
        began = self._pool.monotonic()
        self._heartbeat.write_progress([run for run, _ in batch])
        locked = self._execution.finish([(run.attempt, outcome) for run, outcome in batch])
        self._write_seconds = self._pool.monotonic() - began
        return [done for done in batch if locked and done[1] in locked]

    def _contention_seconds(self, locked: Sequence[Done]) -> float:
        """For how long others go on without those, which have just been tried."""
        if not locked:
            self._contention.reset()
            self._locked_since, self._contention_told = None, False
            return 0.0
        now = self._pool.monotonic()
        if self._locked_since is None:
            self._locked_since = now
        if not self._contention_told and now - self._locked_since >= _CONTENTION_SECONDS:
            self._contention_told = True
            log.warning(
                "worker.outcomes_locked",
                outcomes=len(locked),
                task_id=locked[0][0].attempt.task.task_id,
                hint="a transaction that stays open holds these tasks, or what fails with them: "
                "has it submitted what depends on them?",
            )
        pause = self._contention.seconds
        self._contention.lengthen()
        return pause

    def _forget(self, batch: Sequence[Done]) -> None:
        leased = self._pool.leased
        was_full = len(leased) >= MAX_UNFINISHED
        leased.difference_update([run for run, _ in batch])
        if was_full and self._pool.claimer_waits:
            self._pool.wake_claimer()


def _say_given_up(batch: Sequence[Done]) -> None:
    log.error("worker.outcomes_given_up", outcomes=len(batch))
