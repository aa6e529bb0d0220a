"""What clients send. Unknown fields are refused: a misspelt option must not be an option silently lost."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from taskflow.api.fields import (
    WHOLE,
    Key,
    Moment,
    Name,
    Priority,
    Tag,
    TaskId,
    Traceparent,
    to_microseconds,
)
from taskflow.core.errors import InvalidRequestError
from taskflow.core.submission import (
    MAX_DELAY_SECONDS,
    MAX_DEPENDENCIES,
    MAX_RETRIES,
    MAX_TAGS,
    MAX_TIMEOUT_SECONDS,
    NO_OPTIONS,
    Submission,
    SubmitOptions,
)
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskFilter

MAX_PAGE = 200
MAX_HISTORY_PAGE = 1_000
MAX_BATCH = 10_000  # most that TASKFLOW_MAX_BATCH_SIZE allows
MAX_REDRIVE = 10_000
MAX_GROUPS = 1_000

SEVERAL = frozenset({"status"})  # parameters of a query that may be there more than once
_WHAT = frozenset({"task", "args", "arguments"})  # everything else about a submission is an option


def _with_aliases(schema: dict[str, Any]) -> None:
    """Show the other spellings, of which a body uses one."""
    properties = schema["properties"]
    for alias in ("func_name", "task_type"):
        properties[alias] = {**properties["task"], "title": alias, "description": "Same as `task`"}
    properties["payload"] = {
        **properties["kwargs"],
        "title": "payload",
        "description": "Same as `kwargs`",
    }
    schema.pop("required")
    schema["oneOf"] = [{"required": [name]} for name in ("task", "func_name", "task_type")]
    schema["not"] = {"required": ["kwargs", "payload"]}


class SubmitTask(BaseModel):
    """One task to run."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_with_aliases)

    task: Name = Field(
        validation_alias=AliasChoices("task", "func_name", "task_type"),
        description="Name of a registered handler",
    )
    args: list[Any] = Field(default_factory=list, description="Arguments by position")
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("kwargs", "payload"),
        description="Arguments by name",
    )
    name: Name | None = Field(default=None, description="A label for people")
    priority: Priority | None = None
    delay: Annotated[float, Field(ge=0, le=MAX_DELAY_SECONDS)] | None = Field(
        default=None, description="Seconds from now; or `run_at`"
    )
    run_at: Moment | None = Field(default=None, description="Not before this moment; or `delay`")
    expires_in: Annotated[float, Field(ge=0, le=MAX_DELAY_SECONDS)] | None = Field(
        default=None, description="Seconds from now; or `expires_at`"
    )
    expires_at: Moment | None = Field(default=None, description="Not started by then: expired")
    max_retries: Annotated[int, Field(ge=0, le=MAX_RETRIES), WHOLE] | None = None
    timeout: Annotated[float, Field(ge=0.001, le=MAX_TIMEOUT_SECONDS)] | None = Field(
        default=None, description="Seconds one attempt may run"
    )
    idempotency_key: Key | None = Field(
        default=None, description="The same key never runs twice; or header `Idempotency-Key`"
    )
    depends_on: list[TaskId] = Field(
        default_factory=list, max_length=MAX_DEPENDENCIES, description="Runs after these completed"
    )
    tags: list[Tag] = Field(default_factory=list, max_length=MAX_TAGS)
    metadata: dict[str, Any] = Field(default_factory=dict, description="Kept with the task")
    traceparent: Traceparent | None = Field(
        default=None, description="W3C trace context; or header `traceparent`"
    )

    def to_submission(self, idempotency_key: str | None = None) -> Submission:
        """With the key of the header, if one was sent. Raises InvalidRequestError for options that contradict."""
        given = self.model_fields_set - _WHAT
        if not given and idempotency_key is None:
            return Submission(self.task, self.args, self.arguments, NO_OPTIONS)
        values: dict[str, Any] = {name: getattr(self, name) for name in given}
        for name in ("depends_on", "tags"):
            if name in values:
                values[name] = tuple(values[name])
        if idempotency_key is not None:
            of_body = values.setdefault("idempotency_key", idempotency_key)
            if of_body != idempotency_key:
                raise InvalidRequestError(
                    "the Idempotency-Key header and idempotency_key in the body differ",
                    fields=[{"field": "idempotency_key", "message": "differs from the header"}],
                )
        return Submission(self.task, self.args, self.arguments, SubmitOptions(**values))


class SubmitBatch(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    tasks: list[SubmitTask] = Field(min_length=1, max_length=MAX_BATCH)


class TaskQuery(BaseModel):
    """Which tasks, newest first. Several `status` parameters mean any of them."""

    model_config = ConfigDict(extra="forbid")

    status: list[TaskStatus] = Field(default_factory=list)
    task: Name | None = Field(default=None, description="Name of the handler")
    priority: Priority | None = None
    tag: Tag | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    q: Name | None = Field(default=None, description="Part of the id, the task or the name")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: Key | None = Field(default=None, description="`next_cursor` of the page before")

    def to_filter(self) -> TaskFilter:
        return TaskFilter(
            statuses=frozenset(self.status) or None,
            task=self.task,
            priority=None if self.priority is None else int(self.priority),
            tag=self.tag,
            created_after=to_microseconds(self.created_after),
            created_before=to_microseconds(self.created_before),
            q=self.q,
        )


class WaitQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        default=0,
        ge=0,
        allow_inf_nan=False,
        description="Hold the answer until final, at most 30 s",
    )


class HistoryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_HISTORY_PAGE)
    cursor: str | None = Field(
        default=None, pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before"
    )


class DeadLetterQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    task: Name | None = Field(default=None, description="Name of the handler")
    fingerprint: Name | None = Field(default=None, description="Of a group of like failures")
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    cursor: Key | None = Field(default=None, description="`next_cursor` of the page before")


class GroupQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=100, ge=1, le=MAX_GROUPS)


class SelectDeadLetters(BaseModel):
    """Which dead letters: by id, by task, by fingerprint (task and fingerprint narrow each other), or all of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    task_ids: list[TaskId] = Field(default_factory=list, max_length=MAX_REDRIVE)
    task: Name | None = None
    fingerprint: Name | None = None
    all: bool = Field(default=False, description="Needed when nothing else selects")
    limit: Annotated[int, Field(ge=1, le=MAX_REDRIVE), WHOLE] = Field(
        default=MAX_REDRIVE, description="At most this many"
    )

    @model_validator(mode="after")
    def _selects(self) -> Self:
        by_filter = self.task is not None or self.fingerprint is not None or self.all
        if bool(self.task_ids) == by_filter:
            raise PydanticCustomError(
                "selection", "select either by task_ids, or by task and fingerprint, or all"
            )
        return self


class RedriveDeadLetters(SelectDeadLetters):
    """Send failed tasks again, with all their retries."""

    rate_per_second: Annotated[float, Field(ge=0.001, le=10_000)] | None = Field(
        default=None, description="Spread them over time; without it all are sent at once"
    )
