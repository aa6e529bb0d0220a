"""The task: its priority, its states, the one table of allowed transitions, and the record users see."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from taskflow.core.errors import InvalidRequestError

DEFAULT_TENANT = "default"


class TaskPriority(IntEnum):
    """Lower is sooner. Values are part of the API (0 to 3)."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3

    @classmethod
    def parse(cls, value: TaskPriority | int | str) -> TaskPriority:
        """From a name in any case (``"high"``) or a number (``1`` or ``"1"``). Raises InvalidRequestError."""
        if isinstance(value, str):
            if (member := cls.__members__.get(value.upper())) is not None:
                return member
            if len(value) == 1 and value in "0123":
                return cls(int(value))
        elif (
            isinstance(value, int)
            and not isinstance(value, bool)
            and value in cls._value2member_map_
        ):
            return cls(value)
        names = ", ".join(member.name.lower() for member in cls)
        raise InvalidRequestError(
            f"priority must be one of {names} or 0 to 3, not {value!r:.60}",
            fields=[{"field": "priority", "message": f"must be one of {names} or 0 to 3"}],
        )


class TaskStatus(StrEnum):
    """Where a task is. See docs/state-machine.md for the picture."""

    SCHEDULED = "scheduled"  # not yet due
    BLOCKED = "blocked"  # waits for the tasks it depends on
    PENDING = "pending"  # due, in the queue
    RUNNING = "running"  # claimed by a worker that holds the lease
    RETRYING = "retrying"  # waits for its next attempt
    COMPLETED = "completed"
    FAILED = "failed"  # dead-lettered
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # not started by its expires_at

    @property
    def is_final(self) -> bool:
        return self in FINAL


_S = TaskStatus
FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.EXPIRED})
CLAIMABLE = frozenset({_S.SCHEDULED, _S.PENDING, _S.RETRYING})
WAITING = CLAIMABLE | {_S.BLOCKED}

# The only table of transitions. SQL predicates are derived from it (`sources`), nothing else changes a status.
TRANSITIONS: Mapping[TaskStatus | None, frozenset[TaskStatus]] = {
    None: WAITING - {_S.RETRYING},  # submitted
    _S.BLOCKED: frozenset({_S.PENDING, _S.SCHEDULED, _S.FAILED, _S.CANCELLED, _S.EXPIRED}),
    _S.SCHEDULED: frozenset({_S.RUNNING, _S.CANCELLED, _S.EXPIRED}),
    _S.PENDING: frozenset({_S.RUNNING, _S.CANCELLED, _S.EXPIRED}),
    _S.RETRYING: frozenset({_S.RUNNING, _S.CANCELLED, _S.EXPIRED}),
    # running → pending: released by a draining worker, or recovered from a crashed one
    _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.RETRYING, _S.CANCELLED, _S.PENDING}),
    # final → waiting: retried by hand or redriven, perhaps spread over time; blocked: what it depends on is to run, too
    _S.COMPLETED: frozenset({_S.PENDING, _S.SCHEDULED, _S.BLOCKED}),
    _S.FAILED: frozenset({_S.PENDING, _S.SCHEDULED, _S.BLOCKED}),
    _S.CANCELLED: frozenset({_S.PENDING, _S.SCHEDULED, _S.BLOCKED}),
    _S.EXPIRED: frozenset({_S.PENDING, _S.SCHEDULED, _S.BLOCKED}),
}


def sources(target: TaskStatus) -> frozenset[TaskStatus]:
    """The states from which ``target`` may be entered."""
    return frozenset(
        source
        for source, targets in TRANSITIONS.items()
        if source is not None and target in targets
    )


class ErrorClass(StrEnum):
    """Why an attempt failed; decides whether and when the next one follows (core/classification.py)."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    RATE_LIMITED = "rate_limited"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class TaskError(BaseModel):
    """What went wrong, as stored and shown."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="Class name of the exception", examples=["ConnectionError"])
    message: str
    classification: ErrorClass
    traceback: str | None = Field(default=None, description="Python traceback, cut to 16 KiB")


class Task(BaseModel):
    """One task as callers see it. Times are UTC."""

    model_config = ConfigDict(extra="forbid")

    task_id: str
    tenant_id: str = DEFAULT_TENANT
    task: str = Field(description="Name of the registered handler")
    name: str | None = Field(default=None, description="A label of the submitter's")
    status: TaskStatus
    priority: TaskPriority
    args: list[JsonValue] | None = Field(
        default_factory=list, description="null: they are elsewhere and cannot be read"
    )
    kwargs: dict[str, JsonValue] | None = Field(default_factory=dict, description="As args")
    attempt: int = Field(default=0, description="Attempts started so far")
    failure_count: int = Field(default=0, description="Attempts that used up a retry")
    crash_count: int = Field(default=0, description="Attempts whose worker died")
    max_retries: int
    timeout: float = Field(description="Seconds one attempt may run")
    progress: float | None = Field(default=None, ge=0, le=100)
    progress_message: str | None = None
    result: JsonValue = None
    result_url: str | None = Field(
        default=None,
        description="Where a large result can be read for a while, as JSON, if the server keeps it elsewhere; "
        "`result` is null then",
    )
    error: TaskError | None = None
    run_at: datetime
    expires_at: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: float | None = Field(default=None, description="Run time of the last attempt")
    cancel_requested: bool = False
    worker_id: str | None = None
    depends_on: list[str] = Field(default_factory=list)
    idempotency_key: str | None = None
    tags: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)
    request_id: str | None = Field(default=None, description="Id of the request that submitted it")
    traceparent: str | None = Field(
        default=None, description="W3C trace context that it was submitted in"
    )


class Returned(NamedTuple):
    """What the handler of a completed task returned, after its journey through JSON."""

    value: Any
