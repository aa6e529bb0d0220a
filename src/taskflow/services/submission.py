"""Accepting tasks: validate, offload what is large, commit together with whoever else is submitting, send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from taskflow.core import jsontext
from taskflow.core.errors import (
    InvalidJSONError,
    InvalidRequestError,
    TaskFlowError,
    TaskNotFoundError,
)
from taskflow.core.ids import is_uuid
from taskflow.core.registry import Registry
from taskflow.core.submission import Accepted, NewTask, Submission, SubmitOptions, request_hash
from taskflow.ports.metadata import SubmissionStore
from taskflow.services.completions import Completions
from taskflow.services.counters import Counters
from taskflow.services.group_commit import GroupCommit
from taskflow.services.payloads import Payloads
from taskflow.services.sending import Sending

Answer = Accepted | TaskFlowError


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
        self, tenant_id: str, submissions: Sequence[Submission], *, request_id: str | None = None
    ) -> list[Answer]:
        """One answer per submission, in order: accepted (or replayed), or the error that refused it.

        Raises StoreUnavailableError when nothing could be stored at all.
        """
        answers, tasks = self._prepare(tenant_id, submissions, request_id)
        return self._merge(answers, self._group.run(tasks) if tasks else [])

    async def submit_async(
        self, tenant_id: str, submissions: Sequence[Submission], *, request_id: str | None = None
    ) -> list[Answer]:
        """`submit` for an event loop: it waits without a thread of its own."""
        answers, tasks = self._prepare(tenant_id, submissions, request_id)
        return self._merge(answers, await self._group.run_async(tasks) if tasks else [])

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
        self, tenant_id: str, submissions: Sequence[Submission], request_id: str | None
    ) -> tuple[list[TaskFlowError | None], list[NewTask]]:
        answers: list[TaskFlowError | None] = []
        tasks: list[NewTask] = []
        for submission in submissions:
            try:
                tasks.append(self._new_task(tenant_id, submission, request_id))
                answers.append(None)
            except TaskFlowError as exc:
                answers.append(exc)
                self._counters.rejected(exc.code)
        return answers, tasks

    def _new_task(self, tenant_id: str, submission: Submission, request_id: str | None) -> NewTask:
        handler = self._registry.get(submission.task)
        options, declared = submission.options, handler.declared
        arguments = handler.arguments_json(submission.args, submission.kwargs)
        task_id = self._new_id()
        stored = self._payloads.keep(tenant_id, "input", task_id, arguments)
        expires_in = options.expires_in
        if expires_in is None and options.expires_at is None:
            expires_in = declared.expires_in_seconds
        for parent in options.depends_on:
            if not is_uuid(parent):
                raise TaskNotFoundError(
                    f"depends_on: there is no task {parent!r}",
                    fields=[{"field": "depends_on", "message": f"no task {parent!r}"}],
                )
        return NewTask(
            task_id,
            tenant_id,
            handler.name,
            options.name,
            int(options.priority if options.priority is not None else declared.priority),
            next(
                n
                for n in (options.max_retries, declared.max_retries, self._default_max_retries)
                if n is not None
            ),
            options.timeout or declared.timeout_seconds or self._default_timeout_seconds,
            _microseconds(options.run_at),
            options.delay or 0.0,
            _microseconds(options.expires_at),
            expires_in,
            stored.text,
            stored.key,
            self._metadata(options) if options.metadata else None,
            options.tags,
            options.depends_on,
            options.idempotency_key,
            request_hash(submission, arguments) if options.idempotency_key is not None else None,
            request_id,
        )

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
        result = self._store.insert(
            tasks,
            max_waiting=self._max_waiting,
            max_queue_delay_seconds=self._sending.max_delay_seconds,
            outbox=self._sending.needs_rows,
        )
        self._sending.send(result.to_send)
        self._completions.publish(result.ended)
        accepted: Counter[str] = Counter()
        replayed = 0
        for task, answer in zip(tasks, result.answers, strict=True):
            if isinstance(answer, TaskFlowError):
                self._counters.rejected(answer.code)
            elif answer.replayed:
                replayed += 1
            else:
                accepted[task.task] += 1
        self._counters.submitted(accepted)
        if replayed:
            self._counters.replayed(replayed)
        return result.answers

    @staticmethod
    def _merge(
        answers: Sequence[TaskFlowError | None], committed: Sequence[Answer]
    ) -> list[Answer]:
        rest = iter(committed)
        return [answer if answer is not None else next(rest) for answer in answers]


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000)
