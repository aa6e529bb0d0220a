"""Accepting tasks: validate, offload what is large, commit together with whoever else is submitting, send."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from taskflow import logs
from taskflow.core.errors import CommitUnknownError, StoreLockedError, TaskFlowError
from taskflow.core.submission import Accepted, NewTask, Submission
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import ClaimedTask, InsertResult, StartNow, SubmissionStore
from taskflow.services.completions import Completions
from taskflow.services.counters import Counters
from taskflow.services.group_commit import GroupCommit
from taskflow.services.payloads import Payloads
from taskflow.services.preparation import Preparation, Prepared
from taskflow.services.sending import Sending

log = logs.get_logger(__name__)

_MOST_LOCKED_KEYS = 3  # that are waited for, of those submitted at the same time

Answer = Accepted | TaskFlowError


class Starter(Protocol):
    """A worker of this process: tasks that it can start at once need not be sent, received and claimed first."""

    def choose(self, tasks: Sequence[NewTask]) -> StartNow | None:
        """Which of them it starts, if they are accepted. Every choice is followed by `started`."""
        ...

    def started(self, chosen: StartNow, tasks: Sequence[ClaimedTask]) -> None:
        """These are durable and its own now; none when nothing could be stored."""
        ...


class Submissions:
    """Thread safe. An accepted task is durable when the call returns.

    ``preparation`` checks submissions without storing them. ``starter``: set by a worker of this process while it runs.
    """

    def __init__(
        self,
        store: SubmissionStore,
        *,
        preparation: Preparation,
        payloads: Payloads,
        sending: Sending,
        completions: Completions,
        counters: Counters,
        max_waiting: int,
    ) -> None:
        self.preparation = preparation
        self.starter: Starter | None = None
        self._store = store
        self._payloads = payloads
        self._sending = sending
        self._completions = completions
        self._counters = counters
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

    def _prepare(
        self,
        tenant_id: str,
        submissions: Sequence[Submission],
        request_id: str | None,
        traceparent: str | None,
    ) -> Prepared:
        prepared = self.preparation.prepare(tenant_id, submissions, request_id, traceparent)
        if len(prepared.tasks) < len(submissions):
            for error in prepared.errors:
                if error is not None:
                    self._counters.rejected(error.code)
        return prepared

    # --- the transaction ------------------------------------------------------------------------

    def _commit(self, tasks: Sequence[NewTask]) -> list[Answer]:
        try:
            result = self._insert(tasks)
        except StoreLockedError as exc:
            if len(tasks) == 1:
                raise
            return self._commit_around(tasks, exc)
        except TaskFlowError:
            raise  # the same for all
        except Exception as exc:
            # What the store does not take for a reason nobody foresaw: only its own submitter is to hear of it.
            if len(tasks) > 1:
                return [answer for task in tasks for answer in self._commit_part([task])]
            log.exception("task.not_stored", task=tasks[0].task)
            result = InsertResult([TaskFlowError(f"the task cannot be stored: {exc}")], [], [], [])
        self._sending.send(result.to_send)
        self._completions.publish(result.ended)
        self._counters.ended_waiting(TaskStatus.FAILED, len(result.ended))
        self._count(tasks, result.answers)
        return result.answers

    def _commit_part(self, tasks: Sequence[NewTask]) -> Sequence[Answer]:
        """One of several, after what there was to be stored at once: what has been stored is answered, whatever becomes
        of those after it."""
        try:
            return self._commit(tasks)
        except TaskFlowError as exc:
            return [exc] * len(tasks)

    def _commit_around(self, tasks: Sequence[NewTask], reason: StoreLockedError) -> list[Answer]:
        """All but those whose key somebody else's open transaction has taken, found by halving. Each of them costs a
        wait: after some, others that have a key are refused without one."""
        half = len(tasks) // 2
        answers = list(self._commit_part(tasks[:half]))
        rest = tasks[half:]
        if sum(isinstance(answer, StoreLockedError) for answer in answers) < _MOST_LOCKED_KEYS:
            return [*answers, *self._commit_part(rest)]
        without = [task for task in rest if task.idempotency_key is None]
        stored = iter(self._commit_part(without) if without else ())
        refused = (reason if task.idempotency_key is not None else next(stored) for task in rest)
        return [*answers, *refused]

    def _insert(self, tasks: Sequence[NewTask]) -> InsertResult:
        starter = self.starter
        chosen = None if starter is None else starter.choose(tasks)
        started: Sequence[ClaimedTask] = ()
        try:
            result = self._store.insert(
                tasks,
                max_waiting=self._max_waiting,
                max_queue_delay_seconds=self._sending.max_delay_seconds,
                outbox=self._sending.needs_rows,
                start=chosen,
            )
            started = result.started
        finally:
            if starter is not None and chosen is not None:
                starter.started(chosen, started)
        return result

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

    def _merge(self, prepared: Prepared, committed: Sequence[Answer]) -> list[Answer]:
        if prepared.bodies:
            stored = {answer.task_id for answer in committed if isinstance(answer, Accepted)}
            for task, answer in zip(prepared.tasks, committed, strict=True):
                if isinstance(answer, CommitUnknownError):  # it may be
                    stored.add(task.id)
            self._payloads.forget(
                [
                    task.input_key
                    for task in prepared.tasks
                    if task.input_key is not None and task.id not in stored
                ]
            )
        rest = iter(committed)
        return [error if error is not None else next(rest) for error in prepared.errors]

    def _abandon(self, prepared: Prepared, error: Exception) -> None:
        if not isinstance(error, CommitUnknownError):
            self._payloads.forget(list(prepared.bodies))
