"""What becomes of a task whose attempt failed, or whose worker died: the same rules for both."""

from __future__ import annotations

import random
from typing import Any

from taskflow.core.classification import MAX_MESSAGE_CHARS, describe, fingerprint, judge
from taskflow.core.registry import Handler
from taskflow.core.retry import RetryPolicy
from taskflow.core.task import ErrorClass, TaskStatus
from taskflow.ports.clock import Clock
from taskflow.ports.metadata import ClaimedTask, LostTask, Outcome


class Verdicts:
    """``max_crashes`` deaths of its worker make a dead letter of a task, and so do ``max_uncounted_attempts`` that used
    up no retry; ``default_policy`` is for handlers without."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: random.Random,
        max_crashes: int,
        max_uncounted_attempts: int,
        default_policy: RetryPolicy,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._max_crashes = max_crashes
        self._max_uncounted_attempts = max_uncounted_attempts
        self._default_policy = default_policy

    def outcome(
        self,
        task: ClaimedTask | LostTask,
        exc: BaseException,
        handler: Handler[..., Any] | None,
        *,
        duration_ms: float,
        again: TaskStatus,
    ) -> Outcome:
        """``again`` is the status of a task that gets another attempt: retrying, or pending when it need not wait."""
        left = (
            None
            if task.expires_at is None
            else (task.expires_at - self._clock.now_us()) / 1_000_000
        )
        verdict = judge(
            exc,
            handler,
            attempt=task.attempt,
            failure_count=task.failure_count,
            crash_count=task.crash_count,
            max_retries=task.max_retries,
            max_crashes=self._max_crashes,
            max_uncounted_attempts=self._max_uncounted_attempts,
            seconds_left=left,
            default_policy=self._default_policy,
            rng=self._rng,
        )
        error = describe(exc, verdict.classification)
        if verdict.classification is ErrorClass.CANCELLED:
            status = TaskStatus.CANCELLED
        else:
            status = again if verdict.retry else TaskStatus.FAILED
        if status is TaskStatus.FAILED and verdict.classification is ErrorClass.RATE_LIMITED:
            # `max_retries` says nothing of these: the error has to say why there is no next attempt.
            message = f"{verdict.reason}; the last one: {error.message}"
            error = error.model_copy(update={"message": message[:MAX_MESSAGE_CHARS]})
        return Outcome(
            task.tenant_id,
            task.task_id,
            task.lease_token,
            status,
            task.attempt,
            duration_ms,
            error=error.model_dump_json(exclude_none=True),
            fingerprint=fingerprint(task.task, error) if status is TaskStatus.FAILED else None,
            retry_delay_seconds=verdict.delay_seconds or 0.0,
            counts_failure=verdict.counts_failure,
            counts_crash=verdict.classification is ErrorClass.CRASHED,
        )
