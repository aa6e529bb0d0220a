"""Every metric for CloudWatch: name, unit, dimensions. Pure: the stack's alarms and dashboard use the same names.

Dimensions are few on purpose: each combination of values is a metric that is paid for. Tenants and ids are never one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from taskflow.core.task import ErrorClass, TaskPriority

Unit = Literal["Count", "Milliseconds", "Seconds"]

PRIORITIES = tuple(priority.name.lower() for priority in TaskPriority)
OTHER_TASKS = "other"  # those beyond TASKFLOW_METRICS_EMF_TASKS


@dataclass(frozen=True)
class Metric:
    """``dimensions``: the sets under which it is found; ``()`` is the one without any."""

    name: str
    unit: Unit
    meaning: str
    dimensions: tuple[tuple[str, ...], ...] = ((),)


_BY_SERVICE = ((), ("service",))
_BY_PRIORITY = (("priority",),)
_BY_TASK = (("task",),)

SUBMITTED = Metric("Submitted", "Count", "Tasks accepted", _BY_SERVICE)
REJECTED = Metric("Rejected", "Count", "Submissions refused", _BY_SERVICE)
QUEUE_WAIT = Metric("QueueWait", "Milliseconds", "From due to started", _BY_PRIORITY)
RUN_DURATION = Metric("RunDuration", "Milliseconds", "Run time of attempts", _BY_TASK)
FAILURES = Metric("Failures", "Count", "Attempts that were the last and failed", _BY_TASK)
OUTCOMES: Mapping[str, Metric] = {
    status: Metric(name, "Count", meaning, _BY_SERVICE)
    for status, name, meaning in (
        ("completed", "Completed", "Attempts that completed their task"),
        ("failed", "Failed", "Attempts after which the task was dead-lettered"),
        ("retrying", "Retried", "Attempts that will be repeated"),
        ("cancelled", "Cancelled", "Attempts that were cancelled"),
        ("pending", "GivenBack", "Attempts given back: the worker stopped, or died"),
    )
}
RETRIES: Mapping[str, Metric] = {
    kind.value: Metric(
        f"Retries{kind.value.title().replace('_', '')}", "Count", f"Repeated because {why}"
    )
    for kind, why in (
        (ErrorClass.TRANSIENT, "the error may pass"),
        (ErrorClass.RATE_LIMITED, "the other side asked for patience"),
        (ErrorClass.TIMED_OUT, "the attempt ran out of time"),
        (
            ErrorClass.CRASHED,
            "the queue gave up its message; tasks of dead workers are `Recovered`",
        ),
    )
}
LEASES_LOST = Metric(
    "LeasesLost", "Count", "Outcomes not written: the lease was lost meanwhile", _BY_SERVICE
)
RECOVERED = Metric("Recovered", "Count", "Tasks taken over from dead workers")
OUTBOX_PENDING = Metric("OutboxPending", "Count", "Messages that are due and still in the outbox")
OUTBOX_LAG = Metric("OutboxLag", "Seconds", "How long the oldest of them has been due")
OLDEST_WAITING = Metric(
    "OldestWaiting", "Seconds", "How long the oldest due task has waited", _BY_PRIORITY
)
HEARTBEAT = Metric("Heartbeat", "Count", "Rounds of maintenance that did all their jobs")

METRICS: tuple[Metric, ...] = (
    SUBMITTED,
    REJECTED,
    QUEUE_WAIT,
    RUN_DURATION,
    FAILURES,
    *OUTCOMES.values(),
    *RETRIES.values(),
    LEASES_LOST,
    RECOVERED,
    OUTBOX_PENDING,
    OUTBOX_LAG,
    OLDEST_WAITING,
    HEARTBEAT,
)


def namespace(prefix: str) -> str:
    """Of one deployment, by its TASKFLOW_QUEUE_PREFIX, which is the stack's name."""
    return f"TaskFlow/{prefix}"
