"""Types of single fields, shared by bodies and queries. As strict as the OpenAPI document says they are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from taskflow.core.errors import InvalidRequestError
from taskflow.core.ids import is_uuid
from taskflow.core.submission import CONTROLS, MAX_KEY_CHARS, MAX_NAME_CHARS, MAX_TAG_CHARS
from taskflow.core.task import TaskPriority

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")
_PRIORITIES = [member.name.lower() for member in TaskPriority]


def _whole(value: Any) -> Any:
    """To JSON Schema 3.0 is an integer, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _priority(value: Any) -> TaskPriority:
    try:
        return TaskPriority.parse(_whole(value))
    except InvalidRequestError as exc:
        raise PydanticCustomError(
            "priority", "{reason}", {"reason": exc.fields[0]["message"]}
        ) from None


def _moment(value: Any) -> datetime:
    """Pydantic alone would also take Unix times and bare dates, and JSON Schema's ``date-time`` does not."""
    if isinstance(value, str) and _RFC3339.fullmatch(value) is not None:
        try:
            return datetime.fromisoformat(value.upper().replace("Z", "+00:00")).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise PydanticCustomError(
        "moment",
        "must be a moment with its offset, e.g. 2030-01-01T09:00:00Z; the + of an offset is %2B in a URL",
    )


def _task_id(value: str) -> str:
    if not is_uuid(value):
        raise PydanticCustomError("task_id", "must be the id of a task: a lower-case UUID")
    return value


def _text(limit: int) -> Any:
    """As `SubmitOptions` has them. Pydantic refuses lone surrogates, which a JSON schema cannot speak of."""
    return StringConstraints(min_length=1, max_length=limit, pattern=rf"^[^{CONTROLS}]*$")


Priority = Annotated[
    TaskPriority,
    BeforeValidator(_priority),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": [*_PRIORITIES, *(name.upper() for name in _PRIORITIES)]},
                {"type": "integer", "minimum": 0, "maximum": 3},
                {"type": "string", "enum": ["0", "1", "2", "3"]},
            ],
            "description": "critical (0), high (1), normal (2) or low (3)",
        }
    ),
]
WHOLE = BeforeValidator(_whole)  # after the bounds, which the document would not show otherwise
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2030-01-01T09:00:00Z"]}),
]
TaskId = Annotated[str, AfterValidator(_task_id), Field(json_schema_extra={"format": "uuid"})]
# `SubmitOptions` checks it. No id consists of zeros, which only the document's kind of pattern can say.
Traceparent = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$",
        }
    ),
]
Name = Annotated[str, _text(MAX_NAME_CHARS)]
Tag = Annotated[str, _text(MAX_TAG_CHARS)]
Key = Annotated[str, _text(MAX_KEY_CHARS)]


def to_microseconds(moment: datetime | None) -> int | None:
    """Unix microseconds, as the store keeps moments."""
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(moment: int) -> datetime:
    return _EPOCH + timedelta(microseconds=moment)
