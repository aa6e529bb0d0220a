"""Turns what a handler raised into a class, and the class into a verdict: again (when?) or never."""

from __future__ import annotations

import hashlib
import random
import re
import traceback as tracebacks
from dataclasses import dataclass
from typing import Any

from taskflow.core.errors import (
    AttemptCancelledError,
    AttemptTimeoutError,
    HandlerExitedError,
    InvalidRequestError,
    InvalidResultError,
    PayloadMissingError,
    PayloadTooLargeError,
    TimeoutTooLongError,
    WorkerCrashedError,
)
from taskflow.core.http_answers import http_status, retry_after_seconds
from taskflow.core.registry import Handler
from taskflow.core.retry import Reject, Retry, RetryPolicy
from taskflow.core.submission import MAX_DELAY_SECONDS
from taskflow.core.task import ErrorClass, TaskError

MAX_MESSAGE_CHARS = 4_096
MAX_TRACEBACK_CHARS = 16_384

# HTTP: RFC 9110 §15.5 and RFC 6585. Other 4xx mean that the same request will fail again.
_TRANSIENT_STATUS = frozenset({408, 409, 425, 500, 502, 503, 504})
_RATE_LIMITED_STATUS = 429
_PERMANENT: tuple[type[BaseException], ...] = (
    Reject,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    NameError,
    SyntaxError,
    ImportError,
    InvalidRequestError,
    InvalidResultError,
    PayloadTooLargeError,
    PayloadMissingError,
    HandlerExitedError,
)


def classify(exc: BaseException, handler: Handler[..., Any] | None = None) -> ErrorClass:
    """The handler's own ``never_retry_for`` and ``retry_for`` win over the rules here; unknown errors are transient."""
    if isinstance(exc, AttemptCancelledError):
        return ErrorClass.CANCELLED
    if isinstance(exc, WorkerCrashedError):
        # Not the handler's to say: with `retry_for=Exception` a task that kills its workers would do so for ever.
        return ErrorClass.CRASHED
    if isinstance(exc, Reject | TimeoutTooLongError):
        return ErrorClass.PERMANENT
    if isinstance(exc, Retry):
        return ErrorClass.TRANSIENT if exc.counts else ErrorClass.RATE_LIMITED
    if handler is not None:
        if isinstance(exc, handler.declared.never_retry_for):
            return ErrorClass.PERMANENT
        if isinstance(exc, handler.declared.retry_for):
            return ErrorClass.TRANSIENT
    if isinstance(exc, AttemptTimeoutError):
        return ErrorClass.TIMED_OUT
    status = http_status(exc)
    if status == _RATE_LIMITED_STATUS:
        return ErrorClass.RATE_LIMITED
    if status is not None and 400 <= status < 600:
        return ErrorClass.TRANSIENT if status in _TRANSIENT_STATUS else ErrorClass.PERMANENT
    return ErrorClass.PERMANENT if isinstance(exc, _PERMANENT) else ErrorClass.TRANSIENT


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a failed attempt. ``delay_seconds`` is None when the task is dead-lettered."""

    classification: ErrorClass
    delay_seconds: float | None
    counts_failure: bool
    reason: str

    @property
    def retry(self) -> bool:
        return self.delay_seconds is not None


def judge(
    exc: BaseException,
    handler: Handler[..., Any] | None,
    *,
    attempt: int,
    failure_count: int,
    crash_count: int,
    max_retries: int,
    max_crashes: int,
    max_uncounted_attempts: int,
    seconds_left: float | None,
    default_policy: RetryPolicy,
    rng: random.Random,
) -> Verdict:
    """Decide over the next attempt.

    ``failure_count`` and ``crash_count`` are those before this one, the ``attempt``-th: what neither counts used up
    no retry. After ``max_uncounted_attempts`` of those there is none any more, and each waits longer than the one
    before, whatever a server says it wants to be asked. ``seconds_left`` until the task's
    ``expires_at`` (None: no deadline): a retry that could not start before it is not made. ``default_policy`` serves
    handlers that name none.
    """
    kind = classify(exc, handler)
    if kind is ErrorClass.CANCELLED:
        return Verdict(kind, None, False, "cancelled")
    if kind is ErrorClass.PERMANENT:
        return Verdict(kind, None, True, "permanent error")
    if kind is ErrorClass.CRASHED:
        if crash_count + 1 >= max_crashes:
            return Verdict(kind, None, False, f"crashed its worker {crash_count + 1} times")
        return _within(seconds_left, Verdict(kind, 0.0, False, "worker crashed"))
    policy = (handler.declared.retry_policy if handler is not None else None) or default_policy
    wish = retry_after_seconds(exc)
    counts = kind is not ErrorClass.RATE_LIMITED
    if counts:
        if failure_count >= max_retries:
            reason = f"{max_retries} retries used up" if max_retries else "no retries allowed"
            return Verdict(kind, None, True, reason)
        delay = policy.delay_seconds(failure_count, rng, at_least=wish)
    else:
        if attempt - failure_count - crash_count >= max_uncounted_attempts:
            reason = (
                f"{max_uncounted_attempts} attempts that used up no retry"
                " (TASKFLOW_MAX_UNCOUNTED_ATTEMPTS)"
            )
            return Verdict(kind, None, False, reason)
        before = attempt - 1 - crash_count
        delay = policy.delay_seconds(before, rng)
        if wish is not None:
            delay = max(delay, policy.delay_seconds(before, rng, at_least=wish))
    if isinstance(exc, Retry) and exc.delay_seconds is not None:
        delay = exc.delay_seconds
    # What a handler or a server asks for may be any number; a moment must fit into the store.
    delay = min(delay, MAX_DELAY_SECONDS)
    return _within(seconds_left, Verdict(kind, delay, counts, "will be retried"))


def _within(seconds_left: float | None, verdict: Verdict) -> Verdict:
    if (
        seconds_left is None
        or verdict.delay_seconds is None
        or verdict.delay_seconds < seconds_left
    ):
        return verdict
    return Verdict(
        verdict.classification, None, verdict.counts_failure, "expires before it could be retried"
    )


def describe(exc: BaseException, classification: ErrorClass) -> TaskError:
    """The storable form of ``exc``: no NULs or surrogates, bounded lengths."""
    text = traceback_of(exc) if exc.__traceback__ is not None else ""
    if len(text) > MAX_TRACEBACK_CHARS:
        half = MAX_TRACEBACK_CHARS // 2
        text = f"{text[:half]}\n… {len(text) - 2 * half} characters cut …\n{text[-half:]}"
    return TaskError(
        type=type(exc).__name__,
        message=_storable(_message(exc))[:MAX_MESSAGE_CHARS],
        classification=classification,
        traceback=_storable(text) or None,
    )


def traceback_of(exc: BaseException) -> str:
    """As Python prints it."""
    try:
        return "".join(tracebacks.format_exception(exc))
    except Exception as broken:  # noqa: BLE001 - it reads attributes, which may be a user's code
        frames = "".join(tracebacks.format_tb(exc.__traceback__))
        return f"{frames}<{type(exc).__name__} cannot be shown: {type(broken).__name__}>\n"


def fingerprint(task: str, error: TaskError) -> str:
    """Same for failures of one task that differ only in numbers, ids and quoted values. 16 hex digits."""
    shape = re.sub(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", error.message.lower())
    shape = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", shape)
    return hashlib.sha256(f"{task}\n{error.type}\n{shape[:512]}".encode()).hexdigest()[:16]


def _message(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(exc).__name__}.__str__ raised {type(broken).__name__}>"


def _storable(text: str) -> str:
    return text.replace("\x00", "␀").encode("utf-8", "replace").decode()
