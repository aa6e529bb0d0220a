"""Accepting tasks: validate, offload what is large, commit together with whoever else is submitting, send."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from taskflow import logs
from taskflow.core import jsontext, trace
from taskflow.core.errors import (
    CommitUnknownError,
    InvalidArgumentsError,
    InvalidJSONError,
    InvalidRequestError,
    TaskFlowError,
    UnknownDependencyError,
)
from taskflow.core.ids import is_uuid
from taskflow.core.registry import Handler, Registry
from taskflow.core.submission import Accepted, NewTask, Submission, SubmitOptions, request_hash
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import InsertResult, SubmissionStore
from taskflow.services.completions import Completions
from taskflow.services.counters import Counters
from taskflow.services.group_commit import GroupCommit
from taskflow.services.payloads import Payloads
from taskflow.services.sending import Sending

log = logs.get_logger(__name__)

Answer = Accepted | TaskFlowError


class _Prepared(NamedTuple):
    """``errors``: one per submission, None for those that ``tasks`` holds. ``bodies``: large arguments, by key."""

    errors: list[TaskFlowError | None]
    tasks: list[NewTask]
    bodies: dict[str, bytes]


class Submissions:
    """Thread safe. An accepted task is durable when the call returns."""

    def __init__(
        self,
        store: SubmissionStore,
        *,
        registry: Registry,
        payloads: Payloads,
        sending: Sending,
        completions: Completions,
        counters: Counters,
        new_id: Callable[[], str],
        default_max_retries: int,
        default_timeout_seconds: float,
        max_waiting: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._payloads = payloads
        self._sending = sending
        self._completions = completions
        self._counters = counters
        self._new_id = new_id
        self._default_max_retries = default_max_retries
        self._default_timeout_seconds = default_timeout_seconds
        self._max_waiting = max_waiting
        self._group: GroupCommit[NewTask, Answer] = GroupCommit(
            self._commit, name="taskflow-submit"
        )

    def submit(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        *,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Answer]:
        """One answer per submission, in order: accepted (or replayed), or the error that refused it.

        ``traceparent`` is of those that bring none themselves.

        Raises StoreUnavailableError when nothing could be stored at all.
        """
        prepared = self._prepare(tenant_id, submissions, request_id, traceparent)
        if prepared.bodies:
            self._payloads.put(prepared.bodies)
        try:
            committed = self._group.run(prepared.tasks) if prepared.tasks else []
        except Exception as exc:
            self._abandon(prepared, exc)
            raise
        return self._merge(prepared, committed)

    def submit_within(
        self, tenant_id: str, submissions: Sequence[Submission], connection: object
    ) -> list[Answer]:
        """`submit` in the caller's own open transaction. The tasks exist exactly if it commits, and are sent by the
        relay then; payloads of one that does not are left for `taskflow doctor`.

        Raises InvalidRequestError when ``connection`` cannot be joined.
        """
        prepared = self._prepare(tenant_id, submissions, None, None)
        if not prepared.tasks:
            return self._merge(prepared, [])
        if prepared.bodies:
            self._payloads.put(prepared.bodies)
        try:
            result = self._store.insert_within(
                connection, prepared.tasks, max_waiting=self._max_waiting
            )
        except Exception as exc:
            self._abandon(prepared, exc)
            raise
        self._count(prepared.tasks, result.answers)
        return self._merge(prepared, result.answers)

    async def submit_async(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        *,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> list[Answer]:
        """`submit` for an event loop: it waits without a thread of its own, and leaves large payloads to one.

        A caller that is cancelled does not know whether its tasks were accepted.
        """
        prepared = self._prepare(tenant_id, submissions, request_id, traceparent)
        if prepared.bodies:
            await asyncio.to_thread(self._payloads.put, prepared.bodies)
        try:
            committed = await self._group.run_async(prepared.tasks) if prepared.tasks else []
        except Exception as exc:
            self._abandon(prepared, exc)
            raise
        return self._merge(prepared, committed)

    def submit_one(
        self, tenant_id: str, submission: Submission, *, request_id: str | None = None
    ) -> Accepted:
        """Raises what `submit` returns."""
        [answer] = self.submit(tenant_id, [submission], request_id=request_id)
        if isinstance(answer, TaskFlowError):
            raise answer
        return answer

    def close(self) -> None:
        self._group.close()

    # --- before the transaction -----------------------------------------------------------------

    def _prepare(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        request_id: str | None,
        traceparent: str | None,
    ) -> _Prepared:
        prepared = _Prepared([], [], {})
        traceparent = traceparent or trace.CURRENT.get()
        for submission in submissions:
            try:
                task, body = self._new_task(tenant_id, submission, request_id, traceparent)
            except TaskFlowError as exc:
                prepared.errors.append(exc)
                self._counters.rejected(exc.code)
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

    # --- the transaction ------------------------------------------------------------------------

    def _commit(self, tasks: Sequence[NewTask]) -> list[Answer]:
        try:
            result = self._store.insert(
                tasks,
                max_waiting=self._max_waiting,
                max_queue_delay_seconds=self._sending.max_delay_seconds,
                outbox=self._sending.needs_rows,
            )
        except TaskFlowError:
            raise  # the same for all
        except Exception as exc:
            # What the store does not take for a reason nobody foresaw: only its own submitter is to hear of it.
            if len(tasks) > 1:
                return [answer for task in tasks for answer in self._commit([task])]
            log.exception("task.not_stored", task=tasks[0].task)
            result = InsertResult([TaskFlowError(f"the task cannot be stored: {exc}")], [], [])
        self._sending.send(result.to_send)
        self._completions.publish(result.ended)
        self._counters.ended_waiting(TaskStatus.FAILED, len(result.ended))
        self._count(tasks, result.answers)
        return result.answers

    def _count(self, tasks: Sequence[NewTask], answers: Sequence[Answer]) -> None:
        accepted: Counter[str] = Counter()
        replayed = 0
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, TaskFlowError):
                self._counters.rejected(answer.code)
            elif answer.replayed:
                replayed += 1
            else:
                accepted[task.task] += 1
        self._counters.submitted(accepted)
        if replayed:
            self._counters.replayed(replayed)

    # --- after the transaction ------------------------------------------------------------------

    def _merge(self, prepared: _Prepared, committed: Sequence[Answer]) -> list[Answer]:
        if prepared.bodies:
            stored = {answer.task_id for answer in committed if isinstance(answer, Accepted)}
            self._payloads.forget(
                [
                    task.input_key
                    for task in prepared.tasks
                    if task.input_key is not None and task.id not in stored
                ]
            )
        rest = iter(committed)
        return [error if error is not None else next(rest) for error in prepared.errors]

    def _abandon(self, prepared: _Prepared, error: Exception) -> None:
        if not isinstance(error, CommitUnknownError):
            self._payloads.forget(list(prepared.bodies))


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
