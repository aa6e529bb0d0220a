"""Artifacts: named files that handlers leave with their task."""

from __future__ import annotations

import re
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from taskflow.core.content_types import content_type_of
from taskflow.core.errors import InvalidRequestError

MAX_NAME_CHARS = 200
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MAX_CONTENT_TYPE_CHARS = 200
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]+"  # noqa: S105 - RFC 9110 §5.6.2, without what would need care in a header
_CONTENT_TYPE = re.compile(
    rf'{_TOKEN}/{_TOKEN}(?:; ?{_TOKEN}=(?:{_TOKEN}|"[A-Za-z0-9 !#$&^_.+-]*"))*'
)


class Artifact(BaseModel):
    """A file of a task. What was written last under a name counts, whichever attempt did it."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(examples=["report.csv"])
    size_bytes: int
    content_type: str = Field(examples=["text/csv"])
    attempt: int = Field(description="The attempt that wrote it")
    created_at: datetime
    url: str | None = Field(
        default=None,
        description="Where it can be read: for a while without credentials, or a path of this server",
    )


def is_name(name: object) -> bool:
    return (
        isinstance(name, str) and len(name) <= MAX_NAME_CHARS and _NAME.fullmatch(name) is not None
    )


def checked_name(name: str) -> str:
    """Raises InvalidRequestError unless ``name`` is safe in paths, URLs and headers everywhere."""
    if not is_name(name):
        raise InvalidRequestError(
            f"artifact name {name!r:.80}: must be 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 . _ - (no dot first)",
            fields=[{"field": "name", "message": "A-Z a-z 0-9 . _ - only, no dot first"}],
        )
    return name


def checked_content_type(content_type: str | None, name: str) -> str:
    """``content_type``, by default what the ending of ``name`` says. Raises InvalidRequestError."""
    if content_type is None:
        return content_type_of(name)
    if (
        not isinstance(content_type, str)
        or len(content_type) > _MAX_CONTENT_TYPE_CHARS
        or _CONTENT_TYPE.fullmatch(content_type) is None
    ):
        raise InvalidRequestError(
            f"artifact {name}: content type {content_type!r:.80} is not one, e.g. text/csv",
            fields=[{"field": "content_type", "message": "not a content type, e.g. text/csv"}],
        )
    return content_type
