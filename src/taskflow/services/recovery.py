"""Takes over what dead workers left, and ends what waited beyond its deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from taskflow import logs
from taskflow.core.errors import AttemptCancelledError, WorkerCrashedError
from taskflow.core.events import EventType
from taskflow.core.registry import Registry
from taskflow.core.task import TaskStatus
from taskflow.ports.clock import Clock
from taskflow.ports.liveness import Liveness
from taskflow.ports.metadata import (
    ExecutionStore,
    ExpireResult,
    FinishResult,
    LostTask,
    Outcome,
    TaskKey,
    WorkerRecord,
    WorkerStore,
)
from taskflow.services.batch_size import BatchSize
from taskflow.services.completions import Completions
from taskflow.services.conclusion import Conclusion
from taskflow.services.counters import Counters
from taskflow.services.verdicts import Verdicts

log = logs.get_logger(__name__)

_BATCH = 500
# A worker reports every few seconds; where nobody knows who is dead, silence says so.
_SILENT_US = 3_600 * 1_000_000
_CONFIRM_SILENCE_SECONDS = 60.0
_MOST_LOST = 10_000  # seen at once; more than workers hold, unless very many die together


class _Suspect(NamedTuple):
    """A lease as it was seen expired. Tasks that were claimed together share the token."""

    tenant_id: str
    task_id: str
    lease_token: int
    lease_until: int


class Recovery:
    """Any number may run at once: each outcome is written under the lost lease's token, so only one counts.

    An expired lease alone is believed only when it has been seen, unchanged, for ``confirm_seconds`` of monotonic time:
    a machine clock that jumps forward makes every lease look expired, until its holder's next heartbeat. A worker that
    is known to be dead (`Liveness`) is believed at once.
    """

    def __init__(
        self,
        store: ExecutionStore,
        *,
        workers: WorkerStore,
        liveness: Liveness,
        conclusion: Conclusion,
        completions: Completions,
        counters: Counters,
        registry: Registry,
        clock: Clock,
        verdicts: Verdicts,
        rebuild: Callable[[], Any],
        confirm_seconds: float,
    ) -> None:
        self._store = store
        self._workers = workers
        self._liveness = liveness
        self._conclusion = conclusion
        self._completions = completions
        self._counters = counters
        self._registry = registry
        self._clock = clock
        self._verdicts = verdicts
        self._rebuild = rebuild
        self._confirm_seconds = confirm_seconds
        self._lost_at_once = BatchSize(_BATCH)
        self._expired_at_once = BatchSize(_BATCH)
        self._suspects: dict[_Suspect, float] = {}  # → first seen expired
        self._silences: dict[tuple[str, int], float] = {}  # worker and seen_at → first noticed

    def run_once(self, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Returns how many tasks were taken over. Writes nothing when there is nothing to do. Ends early, between two
        batches, when it is not to go on. Expiry comes last: very many may expire at once."""
        workers = self._workers.list()
        dead = self._liveness.dead([worker.worker_id for worker in workers])
        lost = self._store.lost(dead_workers=dead, limit=_MOST_LOST)
        confirmed = self._confirmed(lost, set(dead))
        recovered, left = 0, len(confirmed)
        if goes_on():
            for part, result in self._lost_at_once.parts(confirmed, self._take_over):
                recovered += len(part) - len(result.fenced) - len(result.locked)
                left -= len(part) - len(result.locked)
                if not goes_on():
                    break
        if recovered:
            self._counters.recovered(recovered)
            log.warning("tasks.recovered", count=recovered, dead_workers=len(dead))
        if dead and not left and len(lost) < _MOST_LOST:
            # What only they had in their queues is nowhere else but in the store.
            self._rebuild()
            self._workers.forget(dead)
            self._liveness.forget(dead)
        self._workers.forget(self._silent(workers))
        self._expire(goes_on)
        return recovered

    def _take_over(self, tasks: Sequence[LostTask]) -> FinishResult:
        outcomes = [self._outcome(task) for task in tasks]
        result = self._conclusion.commit(outcomes)
        self._report(tasks, outcomes, result)
        return result

    def _report(
        self, tasks: Sequence[LostTask], outcomes: Sequence[Outcome], result: FinishResult
    ) -> None:
        """Count and log the attempts that nobody was left to write of, in the words of those that ended well."""
        unwritten, ended = {*result.fenced, *result.locked}, set(result.ended)
        by_task: Counter[tuple[str, str]] = Counter()
        errors: Counter[str] = Counter()
        for task, outcome in zip(tasks, outcomes, strict=True):
            key = TaskKey(task.tenant_id, task.task_id)
            if outcome in unwritten or outcome.error is None:
                continue
            status = outcome.status
            if status is TaskStatus.PENDING and key in ended:
                status = TaskStatus.CANCELLED  # asked for after it was seen as lost
            error = orjson.loads(outcome.error)
            by_task[task.task, status.value] += 1
            errors[error["classification"]] += 1
            log.warning(
                _EVENT_OF[status],
                task=task.task,
                task_id=task.task_id,
                tenant_id=task.tenant_id,
                attempt=task.attempt,
                dead_worker_id=task.worker_id,
                error_type=error["type"],
                error=error["message"],
                classification=error["classification"],
            )
        self._counters.lost(by_task, errors)

    def undecided_seconds(self) -> float | None:
        """Until an expired lease that was seen will be believed; None: none is in doubt. For those who do not run it
        all the time: each `run_once` that comes later than this after the one before decides."""
        if not self._suspects:
            return None
        now = self._clock.monotonic()
        return max(0.0, self._confirm_seconds - (now - min(self._suspects.values())))

    def _expire(self, goes_on: Callable[[], bool]) -> None:
        while (result := self._expired_at_once.fit(self._expire_some)).expired:
            self._completions.publish([*result.expired, *result.failed])
            self._counters.ended_waiting(TaskStatus.EXPIRED, len(result.expired))
            self._counters.ended_waiting(TaskStatus.FAILED, len(result.failed))
            log.info("tasks.expired", count=len(result.expired), dependents=len(result.failed))
            if not goes_on():
                break

    def _expire_some(self, limit: int) -> ExpireResult:
        return self._store.expire(limit=limit)

    def _silent(self, workers: Sequence[WorkerRecord]) -> list[str]:
        """Those nobody has heard of for long, nor while this was watched: a clock that jumps silences nobody."""
        now, silent_since = self._clock.monotonic(), self._clock.now_us() - _SILENT_US
        silent = [(w.worker_id, w.seen_at) for w in workers if w.seen_at < silent_since]
        self._silences = {report: self._silences.get(report, now) for report in silent}
        return [
            worker_id
            for (worker_id, _), since in self._silences.items()
            if now - since >= _CONFIRM_SILENCE_SECONDS
        ]

    def _confirmed(self, lost: list[LostTask], dead: set[str]) -> list[LostTask]:
        now = self._clock.monotonic()
        seen = {_Suspect(t.tenant_id, t.task_id, t.lease_token, t.lease_until): t for t in lost}
        self._suspects = {
            key: self._suspects.get(key, now) for key in seen
        }  # others were extended, or have ended
        return [
            task
            for key, task in seen.items()
            if task.worker_id in dead or now - self._suspects[key] >= self._confirm_seconds
        ]

    def _outcome(self, task: LostTask) -> Outcome:
        crash = WorkerCrashedError(
            f"worker {task.worker_id} died, or lost its lease, during attempt {task.attempt}"
        )
        exc = (
            AttemptCancelledError("cancelled; its worker died meanwhile")
            if task.cancel_requested
            else crash
        )
        return self._verdicts.outcome(
            task,
            exc,
            self._registry.find(task.task),
            duration_ms=0.0,
            again=TaskStatus.PENDING,
        )


_EVENT_OF = {
    TaskStatus.PENDING: EventType.RECOVERED,
    TaskStatus.FAILED: EventType.FAILED,
    TaskStatus.CANCELLED: EventType.CANCELLED,
}
