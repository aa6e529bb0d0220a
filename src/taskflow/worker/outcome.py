"""From how an attempt ended to the outcome that is written."""

from __future__ import annotations

import threading

from taskflow.core.errors import HandlerExitedError, StoreUnavailableError
from taskflow.logs import get_logger
from taskflow.ports.metadata import Outcome
from taskflow.services.execution import Execution
from taskflow.worker.run import GivenBackError, PostponedError, Run

log = get_logger(__name__)

_PAYLOAD_RETRY_SECONDS = 1.0


def outcome_of(
    execution: Execution,
    run: Run,
    value: object,
    error: Exception | None,
    duration_ms: float,
    *,
    releasing: threading.Event,
) -> Outcome | None:
    """While the payload store is away that is to take a large result this waits: until the attempt is ended otherwise,
    or ``releasing`` is set. None only when the engine itself failed; the lease then runs out and the task is
    recovered."""
    attempt, reason = run.attempt, run.reason
    try:
        if reason is not None:
            if isinstance(reason, PostponedError):
                return execution.postponed(
                    attempt, reason.cause, delay_seconds=_PAYLOAD_RETRY_SECONDS
                )
            if isinstance(reason, GivenBackError):
                return execution.given_back(attempt)
            if reason.__traceback__ is None and isinstance(error, HandlerExitedError):
                # Where it was when it was interrupted
                reason.__traceback__ = error.__traceback__
            return execution.failed(attempt, reason, duration_ms)
        if error is not None:
            return execution.failed(attempt, error, duration_ms)
        while True:
            try:
                return execution.succeeded(attempt, value, duration_ms)
            except StoreUnavailableError as exc:
                log.warning("worker.result_waits", task_id=attempt.task.task_id, error=exc.detail)
                if releasing.wait(_PAYLOAD_RETRY_SECONDS):
                    return execution.given_back(attempt)
                if run.reason is not None:  # cancelled meanwhile, or taken over
                    return outcome_of(
                        execution, run, value, error, duration_ms, releasing=releasing
                    )
    except Exception as exc:  # values and errors are user code; none may end a slot
        log.exception("worker.outcome_failed", task=attempt.task.task, task_id=attempt.task.task_id)
        try:
            return execution.failed(
                attempt, RuntimeError(f"its outcome was not usable: {exc!r}"), duration_ms
            )
        except Exception:  # noqa: BLE001 - logged above
            return None
