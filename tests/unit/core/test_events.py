"""What is written down about a task, and the codes of errors: both are part of the API."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest

from taskflow.core import errors
from taskflow.core.errors import TaskFlowError
from taskflow.core.events import Event, EventType


def test_event_names_are_part_of_the_api() -> None:
    assert {event.value for event in EventType} >= {
        "task.submitted",
        "task.started",
        "task.progress",
        "task.retrying",
        "task.completed",
        "task.failed",
        "task.cancelled",
        "task.expired",
    }
    assert all(event.value.startswith("task.") for event in EventType)


def test_an_event_goes_to_json_and_back() -> None:
    event = Event(
        event_id=7,
        tenant_id="default",
        task_id="t1",
        type=EventType.PROGRESS,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        data={"progress": 40, "message": "half way"},
    )
    assert Event.model_validate_json(event.model_dump_json()) == event
    assert '"task.progress"' in event.model_dump_json()


def test_an_event_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="type"):
        Event.model_validate(
            {"event_id": 1, "tenant_id": "a", "task_id": "t", "type": "task.eaten", "at": 0}
        )


ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TaskFlowError) and kind is not TaskFlowError
]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_means_and_has_a_code(kind: type[TaskFlowError]) -> None:
    assert kind.__doc__
    assert kind.code != TaskFlowError.code
    assert kind.code == kind.code.lower()


def test_an_error_carries_its_detail_fields_and_when_to_come_back() -> None:
    fields = [{"field": "a", "message": "is missing"}]
    error = errors.QueueFullError("full", fields=fields, retry_after_seconds=2)
    assert (str(error), error.detail, error.fields) == ("full", "full", fields)
    assert error.retry_after_seconds == 2
    fields[0]["message"] = "changed"
    assert error.fields[0]["message"] == "is missing"


def test_timeouts_are_timeouts_for_callers_that_know_only_python() -> None:
    assert issubclass(errors.ResultTimeoutError, TimeoutError)
    assert issubclass(errors.AttemptTimeoutError, TimeoutError)
    failed = errors.TaskFailedError("x", task_id="t1", status="failed", error={"type": "E"})
    assert (failed.task_id, failed.status, failed.error) == ("t1", "failed", {"type": "E"})
