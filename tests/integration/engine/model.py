"""What TaskFlow promises about tasks, as a plain program: dictionaries, no store, no queue, no leases to lose.

The machine in `machine.py` does everything to the real engine and to this, and compares them after every step.
Moments are Unix microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskflow.core.task import FINAL, WAITING, TaskStatus

S = TaskStatus
SECOND = 1_000_000
_UNSUCCESSFUL = FINAL - {S.COMPLETED}


@dataclass(eq=False)
class ModelTask:
    tenant: str
    task_id: str
    status: S
    run_at: int
    expires_at: int | None
    max_retries: int
    parents: list[ModelTask]
    attempt: int = 0
    failure_count: int = 0
    crash_count: int = 0
    cancel_requested: bool = False
    failed_by_parent: bool = False
    discarded: bool = False
    result: Any = None
    owner: object = None  # the attempt that holds the lease
    lease_until: int = 0

    def is_claimable(self, now: int) -> bool:
        if self.expires_at is not None and self.expires_at <= now:
            return False
        return self.status is S.PENDING or (
            self.status in (S.SCHEDULED, S.RETRYING) and self.run_at <= now
        )

    @property
    def waits_for(self) -> int:
        return sum(parent.status is not S.COMPLETED for parent in self.parents)


@dataclass
class Model:
    tasks: list[ModelTask] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[object, ModelTask]] = field(default_factory=dict)

    # --- what callers do ------------------------------------------------------------------------

    def submitted(
        self,
        tenant: str,
        task_id: str,
        *,
        now: int,
        delay_seconds: float,
        expires_in: float | None,
        max_retries: int,
        parents: list[ModelTask],
    ) -> ModelTask:
        run_at = now + int(delay_seconds * SECOND)
        expires_at = None if expires_in is None else now + int(expires_in * SECOND)
        task = ModelTask(tenant, task_id, S.PENDING, run_at, expires_at, max_retries, parents)
        if any(parent.status in _UNSUCCESSFUL for parent in parents):
            task.status, task.failed_by_parent = S.FAILED, True
        elif task.waits_for:
            task.status = S.BLOCKED
        else:
            task.status = S.SCHEDULED if run_at > now else S.PENDING
        self.tasks.append(task)
        return task

    def cancel(self, task: ModelTask, now: int) -> None:
        if task.status is S.RUNNING:
            task.cancel_requested = True
        elif task.status in WAITING:
            task.cancel_requested = True
            self._end([(task, S.CANCELLED)], now)

    def redrive(self, tasks: Sequence[ModelTask], now: int, delays: Sequence[float]) -> None:
        """Those that ended on their own account first; those that failed because of a parent wait for it again if it
        is among them, and run (because a person says so) if it is not. What depends on a task that is to run waits."""
        due = {task: now + int(delay * SECOND) for task, delay in zip(tasks, delays, strict=True)}
        left = [task for task in due if task.status in FINAL]
        roots = [task for task in left if not task.failed_by_parent]
        anew: list[ModelTask] = []
        while left:
            roots = roots or [t for t in left if not any(p in left for p in t.parents)]
            for task in roots:
                task.status = S.SCHEDULED if due[task] > now else S.PENDING
                task.run_at = due[task]
                task.attempt = task.failure_count = task.crash_count = 0
                task.cancel_requested = task.discarded = task.failed_by_parent = False
                task.result = None
                if task.expires_at is not None and task.expires_at <= task.run_at:
                    task.expires_at = None
            anew += roots
            self._block_again()
            settled = {*roots, *(t for t in left if any(p in roots for p in t.parents))}
            left = [t for t in left if t not in settled and t.status in FINAL]
            roots = []
        for task in anew:
            if task.waits_for and not any(p.status in _UNSUCCESSFUL for p in task.parents):
                task.status = S.BLOCKED

    def _block_again(self) -> None:
        changed = True
        while changed:
            changed = False
            for task in self.tasks:
                if (
                    task.failed_by_parent
                    and task.waits_for
                    and not any(parent.status in _UNSUCCESSFUL for parent in task.parents)
                ):
                    task.status, task.failed_by_parent, task.discarded = S.BLOCKED, False, False
                    changed = True

    # --- what workers do ------------------------------------------------------------------------

    def claim(self, task: ModelTask, owner: object, *, now: int, lease_seconds: float) -> None:
        task.status = S.RUNNING
        task.attempt += 1
        task.owner = owner
        task.lease_until = now + int(lease_seconds * SECOND)

    def finish(
        self,
        outcomes: Iterable[tuple[ModelTask, S, dict[str, Any]]],
        now: int,
    ) -> None:
        """All in one transaction: what completes counts before what fails. ``retry_delay``, ``failures``, ``crashes``,
        ``result`` and ``attempt`` (given back: the one before) in the dictionary."""
        ended = []
        for task, status, how in outcomes:
            task.owner = None
            task.attempt = how.get("attempt", task.attempt)
            task.failure_count += how.get("failures", 0)
            task.crash_count += how.get("crashes", 0)
            if task.cancel_requested and status not in FINAL:
                status = S.CANCELLED
            if status in FINAL:
                task.result = how.get("result")
                ended.append((task, status))
            else:
                task.status = status
                task.run_at = now + int(how.get("retry_delay", 0.0) * SECOND)
        self._end(ended, now)

    def expire(self, now: int) -> None:
        late = [
            task
            for task in self.tasks
            if task.status in WAITING and task.expires_at is not None and task.expires_at <= now
        ]
        self._end([(task, S.EXPIRED) for task in late], now)

    # --- what follows ---------------------------------------------------------------------------

    def _end(self, ended: Iterable[tuple[ModelTask, S]], now: int) -> None:
        for task, status in ended:
            task.status = status
        for task in self.tasks:
            if task.status is S.BLOCKED and not task.waits_for:
                task.status = S.SCHEDULED if task.run_at > now else S.PENDING
        changed = True
        while changed:
            changed = False
            for task in self.tasks:
                if task.status is S.BLOCKED and any(
                    p.status in _UNSUCCESSFUL for p in task.parents
                ):
                    task.status, task.failed_by_parent, changed = S.FAILED, True, True
