"""What becomes of a submission before it is stored: arguments checked, defaults filled in, what is large set apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from taskflow.core import jsontext, trace
from taskflow.core.errors import (
    InvalidArgumentsError,
    InvalidJSONError,
    InvalidRequestError,
    TaskFlowError,
    UnknownDependencyError,
)
from taskflow.core.ids import is_uuid
from taskflow.core.registry import Handler, Registry
from taskflow.core.submission import NewTask, Submission, SubmitOptions, request_hash
from taskflow.services.payloads import Payloads


class Prepared(NamedTuple):
    """``errors``: one per submission, None for those that ``tasks`` holds. ``bodies``: large arguments, by key."""

    errors: list[TaskFlowError | None]
    tasks: list[NewTask]
    bodies: dict[str, bytes]


class Preparation:
    """Thread safe. Stores nothing."""

    def __init__(
        self,
        *,
        registry: Registry,
        payloads: Payloads,
        new_id: Callable[[], str],
        default_max_retries: int,
        default_timeout_seconds: float,
    ) -> None:
        self._registry = registry
        self._payloads = payloads
        self._new_id = new_id
        self._default_max_retries = default_max_retries
        self._default_timeout_seconds = default_timeout_seconds

    def prepare(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        request_id: str | None,
        traceparent: str | None,
    ) -> Prepared:
        """``traceparent`` is of those that bring none themselves."""
        prepared = Prepared([], [], {})
        traceparent = traceparent or trace.CURRENT.get()
        for submission in submissions:
            try:
                task, body = self._new_task(tenant_id, submission, request_id, traceparent)
            except TaskFlowError as exc:
                prepared.errors.append(exc)
                continue
            prepared.errors.append(None)
            prepared.tasks.append(task)
            if task.input_key is not None:
                prepared.bodies[task.input_key] = body
        return prepared

    def _new_task(
        self,
        tenant_id: str,
        submission: Submission,
        request_id: str | None,
        traceparent: str | None,
    ) -> tuple[NewTask, bytes]:
        """With the body of its arguments, if that goes to the payload store."""
        handler = self._registry.get(submission.task)
        options, declared = submission.options, handler.declared
        for parent in options.depends_on:
            if not is_uuid(parent):
                raise UnknownDependencyError(
                    f"depends_on: there is no task {parent!r}",
                    fields=[{"field": "depends_on", "message": f"no task {parent!r}"}],
                )
        arguments = _arguments(handler, submission)
        task_id = self._new_id()
        text, key, body = self._payloads.place(tenant_id, "input", task_id, arguments)
        expires_in = options.expires_in
        if expires_in is None and options.expires_at is None:
            expires_in = declared.expires_in_seconds
        retries = options.max_retries
        if retries is None:
            retries = declared.max_retries
        task = NewTask(
            task_id,
            tenant_id,
            handler.name,
            options.name,
            int(options.priority if options.priority is not None else declared.priority),
            self._default_max_retries if retries is None else retries,
            options.timeout or declared.timeout_seconds or self._default_timeout_seconds,
            _microseconds(options.run_at),
            options.delay or 0.0,
            _microseconds(options.expires_at),
            expires_in,
            text,
            key,
            self._metadata(options) if options.metadata else None,
            options.tags,
            options.depends_on,
            options.idempotency_key,
            request_hash(submission, arguments) if options.idempotency_key is not None else None,
            request_id,
            options.traceparent or traceparent,
        )
        return task, body

    def _metadata(self, options: SubmitOptions) -> str:
        try:
            text = jsontext.checked_dumps(dict(options.metadata))
        except InvalidJSONError as exc:
            raise InvalidRequestError(
                f"metadata: {exc.detail}", fields=[{"field": "metadata", "message": exc.detail}]
            ) from None
        self._payloads.check_size(len(text.encode()), "metadata")
        return text


def _arguments(handler: Handler[..., Any], submission: Submission) -> str:
    try:
        return handler.arguments_json(submission.args, submission.kwargs)
    except TaskFlowError:
        raise
    except Exception as exc:  # a type's own validator may raise anything
        raise InvalidArgumentsError(
            f"the arguments cannot be checked: {type(exc).__name__}: {exc}"
        ) from exc


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000)
