"""What is written down about a task. Event names equal log names and are part of the API."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field


class EventType(StrEnum):
    SUBMITTED = "task.submitted"
    RELEASED = "task.released"  # its dependencies are complete, or a worker gave it back
    STARTED = "task.started"
    PROGRESS = "task.progress"
    RETRYING = "task.retrying"
    RECOVERED = "task.recovered"  # taken over from a worker that died
    CANCEL_REQUESTED = "task.cancel_requested"
    COMPLETED = "task.completed"
    FAILED = "task.failed"
    CANCELLED = "task.cancelled"
    EXPIRED = "task.expired"
    RESENT = "task.resent"  # it waited so long that the queue was about to forget its message
    REDRIVEN = "task.redriven"  # a final task was sent again, by hand or from the dead letters
    DISCARDED = "task.discarded"  # a dead letter was put away by a person


class Event(BaseModel):
    """One entry of a task's history. ``event_id`` grows; it is the cursor for resuming a stream."""

    event_id: int
    tenant_id: str
    task_id: str
    type: EventType
    at: datetime
    data: dict[str, Any] = Field(default_factory=dict)
