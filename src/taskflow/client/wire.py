"""What goes over the wire, in both directions: submissions as JSON, JSON as tasks and events."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from taskflow.calls.dead_letters import Selection
from taskflow.calls.views import HandlerInfo, TaskPage, TaskQuery, first_line
from taskflow.core import jsontext, trace
from taskflow.core.artifacts import Artifact
from taskflow.core.errors import (
    InvalidArgumentsError,
    InvalidJSONError,
    InvalidRequestError,
    ServerUnavailableError,
)
from taskflow.core.events import Event
from taskflow.core.submission import Submission
from taskflow.core.task import Task, TaskPriority
from taskflow.ports.metadata import FailureGroup, WorkerRecord


def body_of(submission: Submission) -> dict[str, Any]:
    """The request body. Without an idempotency key it gets a random one, so that sending it twice makes one task.

    Raises InvalidArgumentsError for arguments that JSON cannot carry.
    """
    options = submission.options
    body: dict[str, Any] = {
        "task": submission.task,
        "args": _json(list(submission.args), "args"),
        "kwargs": _json(dict(submission.kwargs), "kwargs"),
        "idempotency_key": options.idempotency_key or secrets.token_hex(16),
    }
    optional = {
        "priority": None if options.priority is None else int(options.priority),
        "delay": options.delay,
        "run_at": _text(options.run_at),
        "expires_in": options.expires_in,
        "expires_at": _text(options.expires_at),
        "max_retries": options.max_retries,
        "timeout": options.timeout,
        "depends_on": list(options.depends_on) or None,
        "tags": list(options.tags) or None,
        "metadata": _json(dict(options.metadata), "metadata") or None,
        "name": options.name,
        "traceparent": options.traceparent or trace.CURRENT.get(),
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def params_of(query: TaskQuery, *, limit: int, cursor: str | None) -> dict[str, Any]:
    return {
        "status": list(query.status) or None,
        "task": query.task,
        "priority": None if query.priority is None else int(query.priority),
        "tag": query.tag,
        "created_after": _text(query.created_after),
        "created_before": _text(query.created_before),
        "q": query.q,
        "limit": limit,
        "cursor": cursor,
    }


def task_of(data: Any) -> Task:
    """Fields that a newer server may have added are left out."""
    try:
        return Task.model_validate(
            {name: value for name, value in data.items() if name in Task.model_fields}
        )
    except (ValidationError, AttributeError) as exc:
        raise unexpected("a task", exc) from exc


def page_of(data: Any) -> TaskPage:
    return TaskPage([task_of(item) for item in items_of(data)], data.get("next_cursor"))


def items_of(data: Any) -> list[Any]:
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise unexpected("a list of items")
    return items


def event_of(data: Mapping[str, Any]) -> Event:
    try:
        return Event.model_validate(data)
    except ValidationError as exc:
        raise unexpected("an event", exc) from exc


def artifact_of(data: Mapping[str, Any]) -> Artifact:
    try:
        return Artifact.model_validate(data)
    except ValidationError as exc:
        raise unexpected("an artifact", exc) from exc


def group_of(data: Mapping[str, Any]) -> FailureGroup:
    try:
        return FailureGroup(
            **{name: data[name] for name in FailureGroup._fields if not name.endswith("_at")},
            first_at=_microseconds(data["first_at"]),
            last_at=_microseconds(data["last_at"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise unexpected("a group of failures", exc) from exc


def worker_of(data: Mapping[str, Any]) -> WorkerRecord:
    try:
        return WorkerRecord(
            **{name: data[name] for name in WorkerRecord._fields if not name.endswith("_at")},
            started_at=_microseconds(data["started_at"]),
            seen_at=_microseconds(data["seen_at"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise unexpected("a worker", exc) from exc


def handler_of(data: Mapping[str, Any]) -> HandlerInfo:
    try:
        return HandlerInfo(
            name=data["task"],
            description=first_line(data["description"]),
            priority=TaskPriority.parse(data["priority"]),
            max_retries=data["max_retries"],
            timeout=data["timeout"],
            executor=data["executor"],
            arguments=data["arguments"],
        )
    except (KeyError, TypeError, InvalidRequestError) as exc:
        raise unexpected("a handler", exc) from exc


def selection_of(selection: Selection) -> dict[str, Any]:
    if selection.task_ids is not None:
        return {"task_ids": list(selection.task_ids)}
    everything = selection.task is None and selection.fingerprint is None
    return {"task": selection.task, "fingerprint": selection.fingerprint, "all": everything}


def _json(value: Any, field: str) -> Any:
    """Plain JSON of what people pass: datetimes, dataclasses and Pydantic models are written as Pydantic does."""
    try:
        plain = to_jsonable_python(value)
        jsontext.check(plain)
    except InvalidJSONError as exc:
        raise InvalidArgumentsError(f"{field}: {exc.detail}", fields=exc.fields) from None
    except (PydanticSerializationError, ValueError) as exc:
        raise InvalidArgumentsError(
            f"{field}: {exc}", fields=[{"field": field, "message": str(exc)}]
        ) from None
    return plain


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _microseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def unexpected(what: str, exc: Exception | None = None) -> ServerUnavailableError:
    return ServerUnavailableError(
        f"the server did not answer with {what}; is it another version of TaskFlow?"
        + (f" ({exc})" if exc else "")
    )
