"""Every error TaskFlow raises on purpose. Each has a stable code; transports look the rest up from it.

`api/errors.py` maps codes to HTTP status; the CLI maps them to exit codes. A code is never renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar


class TaskFlowError(Exception):
    """Base of all TaskFlow errors. ``detail`` is for people, ``code`` and ``fields`` for programs."""

    code: ClassVar[str] = "internal_error"

    def __init__(
        self,
        detail: str,
        *,
        fields: Sequence[Mapping[str, Any]] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = [dict(field) for field in fields]
        self.retry_after_seconds = retry_after_seconds


# --- what a caller sent -------------------------------------------------------------------------


class InvalidRequestError(TaskFlowError):
    """The request as a whole makes no sense: contradicting or impossible options."""

    code = "invalid_request"


class InvalidJSONError(InvalidRequestError):
    """Not JSON, or JSON that not every store can keep (NaN, NUL, lone surrogates, beyond 64 bit, too deep)."""

    code = "invalid_json"


class UnknownTaskError(InvalidRequestError):
    """No handler is registered under this name."""

    code = "unknown_task"


class UnknownDependencyError(InvalidRequestError):
    """`depends_on` names a task that does not exist, or belongs to another tenant."""

    code = "unknown_dependency"


class InvalidArgumentsError(InvalidRequestError):
    """The arguments do not fit the handler's signature. ``fields`` names each one that is wrong."""

    code = "invalid_arguments"


class PayloadTooLargeError(TaskFlowError):
    """Arguments, a result or a request body are over their limit. The message names limit and setting."""

    code = "payload_too_large"


class ResponseTooLargeError(TaskFlowError):
    """An answer is over what Lambda, or the load balancer before it, lets through."""

    code = "response_too_large"


class IdempotencyConflictError(TaskFlowError):
    """The idempotency key was used before, with another request."""

    code = "idempotency_conflict"


class QueueFullError(TaskFlowError):
    """`TASKFLOW_MAX_QUEUE_SIZE` tasks are waiting already. Nothing was stored; safe to repeat later."""

    code = "queue_full"


class TaskNotFoundError(TaskFlowError):
    """No task has this id, or it belongs to another tenant."""

    code = "task_not_found"


class ArtifactNotFoundError(TaskFlowError):
    """The task has no artifact of this name."""

    code = "artifact_not_found"


class InvalidTransitionError(TaskFlowError):
    """The task is not in a state from which this is possible, e.g. retrying a running task."""

    code = "invalid_transition"


class InvalidCursorError(InvalidRequestError):
    """The page cursor was not made by this API, or for another query."""

    code = "invalid_cursor"


# --- how a program uses TaskFlow -----------------------------------------------------------------


class RegistrationError(TaskFlowError):
    """A handler cannot be registered: name taken, signature JSON cannot carry, impossible options."""

    code = "invalid_registration"


class NoActiveAppError(TaskFlowError):
    """`handler.submit()` was called while no `TaskFlow` was started in this process."""

    code = "no_active_app"


class ConfigurationError(TaskFlowError):
    """A setting is missing, contradicts another one, or names something that does not exist."""

    code = "invalid_configuration"


class ResultTimeoutError(TaskFlowError, TimeoutError):
    """The task was not final within the time the caller was ready to wait. It goes on."""

    code = "result_timeout"


class TaskFailedError(TaskFlowError):
    """`result()` of a task that failed, was cancelled or expired. ``error`` is the task's error."""

    code = "task_failed"

    def __init__(
        self, detail: str, *, task_id: str, status: str, error: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.task_id = task_id
        self.status = status
        self.error = dict(error) if error else None


# --- what surrounds us ---------------------------------------------------------------------------


class StoreUnavailableError(TaskFlowError):
    """The metadata store did not answer or is locked. Nothing was written; safe to repeat."""

    code = "store_unavailable"


class StoreBusyError(StoreUnavailableError):
    """Every connection this process may hold was in use for too long. Nothing was written; safe to repeat later."""

    code = "store_busy"


class StoreLockedError(StoreBusyError):
    """A transaction that has not ended yet holds what this one wants. Nothing was written; safe to repeat later."""


class StatementTimeoutError(StoreUnavailableError):
    """The store gave up what took longer than it may. Nothing was written; less at once may do."""


class CommitUnknownError(StoreUnavailableError):
    """The connection to the store broke during the commit: all of it was written, or nothing."""

    code = "commit_unknown"


class StoreReadOnlyError(StoreUnavailableError):
    """The store cannot be written: file permissions, or a read-only disk."""

    code = "store_read_only"


class StoreFullError(StoreUnavailableError):
    """The disk is full. Nothing was written; accepted work is untouched."""

    code = "store_full"


class StoreVersionError(TaskFlowError):
    """The store was written by a newer TaskFlow, or is not a TaskFlow store at all."""

    code = "store_version"


class StoreCorruptError(TaskFlowError):
    """The store's file is damaged. Restore a backup, or run `taskflow doctor`."""

    code = "store_corrupt"


class QueueUnavailableError(TaskFlowError):
    """The task queue did not answer or refused. What was accepted is in the store and is sent later."""

    code = "queue_unavailable"


class PayloadMissingError(TaskFlowError):
    """A payload that a row refers to is gone from the payload store."""

    code = "payload_missing"


class PayloadCorruptError(TaskFlowError):
    """A payload's bytes do not match its checksum."""

    code = "payload_corrupt"


class BackupInvalidError(TaskFlowError):
    """The backup file is truncated, edited or of another version. The message names the line."""

    code = "backup_invalid"


class ServerUnavailableError(TaskFlowError):
    """The TaskFlow server could not be reached, or its answer was not TaskFlow's."""

    code = "server_unavailable"


# --- how an attempt ended ------------------------------------------------------------------------


class AttemptError(TaskFlowError):
    """Base of the reasons for which the engine itself ended an attempt."""

    code = "attempt_failed"


class AttemptTimeoutError(AttemptError, TimeoutError):
    """The attempt ran longer than the task's timeout."""

    code = "attempt_timeout"


class TimeoutTooLongError(AttemptError):
    """The task may run longer than the process that was to run it may live (a Lambda function)."""

    code = "timeout_too_long"


class AttemptCancelledError(AttemptError):
    """The task was cancelled while it ran."""

    code = "attempt_cancelled"


class WorkerCrashedError(AttemptError):
    """The process that ran the attempt died, or its lease ran out."""

    code = "worker_crashed"


class LeaseLostError(AttemptError):
    """The attempt is no longer the task's: its lease ran out and another one may have begun. Nothing was written."""

    code = "lease_lost"


class InvalidResultError(AttemptError):
    """The handler returned something JSON cannot carry, or too much of it."""

    code = "invalid_result"


class HandlerExitedError(AttemptError):
    """The handler called `sys.exit()` or raised another `BaseException`."""

    code = "handler_exited"


class DependencyFailedError(AttemptError):
    """A task this one depends on did not complete, so this one never can."""

    code = "dependency_failed"
