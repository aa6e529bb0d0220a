"""What calls take and return, beside `Task` and `Event`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from taskflow.core.errors import InvalidRequestError
from taskflow.core.registry import Handler
from taskflow.core.submission import check_moment
from taskflow.core.task import Task, TaskPriority, TaskStatus


class TaskPage(NamedTuple):
    """Tasks, newest first. ``next_cursor`` leads to the older ones, also from a page that is not full; None:
    there are none."""

    items: list[Task]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks `list` returns. None: any. ``q`` is looked for in id, task and name."""

    status: Sequence[TaskStatus] = ()
    task: str | None = None
    priority: TaskPriority | None = None
    tag: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    q: str | None = None

    @classmethod
    def of(cls, **filters: Any) -> TaskQuery:
        """From what people write: ``status="failed"`` or several, ``priority="high"``. Raises InvalidRequestError."""
        for name in filters:
            if name not in cls.__slots__:
                raise InvalidRequestError(
                    f"unknown filter {name!r}; there are {', '.join(cls.__slots__)}"
                )
        statuses = filters.pop("status", None) or ()
        if isinstance(statuses, str):
            statuses = (statuses,)
        if filters.get("priority") is not None:
            filters["priority"] = TaskPriority.parse(filters["priority"])
        for name in ("created_after", "created_before"):
            check_moment(name, filters.get(name))
        for name in ("task", "tag", "q"):
            if not isinstance(filters.get(name), str | None):
                _refuse(name, f"must be a text, not {filters[name]!r:.60}")
        try:
            return cls(status=tuple(TaskStatus(status) for status in statuses), **filters)
        except (TypeError, ValueError) as exc:
            _refuse("status", f"{exc}; there are {', '.join(TaskStatus)}")


@dataclass(frozen=True, slots=True)
class HandlerInfo:
    """A registered handler as others see it. None: the default of the settings.

    ``description`` is the first line of the docstring, ``arguments`` the JSON schema of the arguments by name.
    """

    name: str
    description: str
    priority: TaskPriority
    max_retries: int | None
    timeout: float | None
    executor: str
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, handler: Handler[..., Any]) -> HandlerInfo:
        declared = handler.declared
        return cls(
            name=handler.name,
            description=first_line(handler.function.__doc__),
            priority=declared.priority,
            max_retries=declared.max_retries,
            timeout=declared.timeout_seconds,
            executor=declared.executor,
            arguments=handler.signature.json_schema,
        )


def first_line(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "").partition("\n")[0]


def _refuse(name: str, message: str) -> NoReturn:
    raise InvalidRequestError(f"{name}: {message}", fields=[{"field": name, "message": message}])
