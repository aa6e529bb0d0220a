"""Calls on services in this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow.calls.dead_letters import DeadLetterCalls, Groups, Selection
from taskflow.calls.tasks import Answers, Artifacts, Events, TaskCalls, Workers
from taskflow.calls.views import HandlerInfo, TaskPage, TaskQuery
from taskflow.core.errors import TaskFlowError
from taskflow.core.submission import Submission
from taskflow.core.task import DEFAULT_TENANT, Returned, Task
from taskflow.handle import TaskHandle
from taskflow.ports.metadata import TaskFilter

if TYPE_CHECKING:
    from taskflow.bootstrap import Runtime

_LONG_WAIT_SECONDS = 3_600.0  # one turn of waiting without a limit
_HISTORY_PAGE = 1_000


class RuntimeCalls(TaskCalls):
    """Everything a caller may ask, answered by a `Runtime`. Subclasses say where it comes from."""

    tenant_id = DEFAULT_TENANT

    @property
    @abstractmethod
    def runtime(self) -> Runtime:
        """The services. Raises NoActiveAppError while there are none."""

    def submit_batch(self, submissions: Sequence[Submission], connection: Any = None) -> Answers:
        service = self.runtime.submissions
        answers = (
            service.submit(self.tenant_id, submissions)
            if connection is None
            else service.submit_within(self.tenant_id, submissions, connection)
        )
        return [
            answer
            if isinstance(answer, TaskFlowError)
            else TaskHandle(self, answer.task_id, replayed=answer.replayed)
            for answer in answers
        ]

    def submit_task(self, submission: Submission, connection: Any = None) -> TaskHandle:
        if connection is not None:
            return super().submit_task(submission, connection)
        accepted = self.runtime.submissions.submit_one(self.tenant_id, submission)
        return TaskHandle(self, accepted.task_id, replayed=accepted.replayed)

    def get(self, task_id: str) -> Task:
        return self.runtime.tasks.get(self.tenant_id, task_id)

    def wait(self, task_id: str, timeout_seconds: float | None) -> Task:
        return self.runtime.tasks.wait(self.tenant_id, task_id, timeout_seconds)

    def returned(self, task_id: str, timeout_seconds: float | None) -> Returned | Task:
        return self.runtime.tasks.returned(self.tenant_id, task_id, timeout_seconds)

    async def wait_async(self, task_id: str, timeout_seconds: float | None) -> Task:
        if timeout_seconds is not None:
            return await self.runtime.tasks.wait_async(self.tenant_id, task_id, timeout_seconds)
        while True:
            task = await self.wait_async(task_id, _LONG_WAIT_SECONDS)
            if task.status.is_final:
                return task

    def cancel(self, task_id: str) -> Task:
        return self.runtime.tasks.cancel(self.tenant_id, task_id)

    def retry(self, task_id: str) -> Task:
        return self.runtime.tasks.retry(self.tenant_id, task_id)

    def history(self, task_id: str) -> Events:
        tasks = self.runtime.tasks
        events = tasks.history(self.tenant_id, task_id, limit=_HISTORY_PAGE)
        page = events
        while len(page) == _HISTORY_PAGE:
            page = tasks.history(
                self.tenant_id, task_id, after=page[-1].event_id, limit=_HISTORY_PAGE
            )
            events = events + page
        return events

    def artifacts(self, task_id: str) -> Artifacts:
        return self.runtime.artifacts.list(self.tenant_id, task_id)

    def artifact(self, task_id: str, name: str) -> bytes:
        return self.runtime.artifacts.get(self.tenant_id, task_id, name)

    def find(self, query: TaskQuery, *, limit: int, cursor: str | None) -> TaskPage:
        where = TaskFilter(
            statuses=frozenset(query.status) or None,
            task=query.task,
            priority=None if query.priority is None else int(query.priority),
            tag=query.tag,
            created_after=_microseconds(query.created_after),
            created_before=_microseconds(query.created_before),
            q=query.q,
        )
        return TaskPage(*self.runtime.tasks.list(self.tenant_id, where, limit=limit, cursor=cursor))

    @property
    def dead_letters(self) -> DeadLetterCalls:
        return RuntimeDeadLetters(self)

    def handlers(self) -> Sequence[HandlerInfo]:
        return [HandlerInfo.of(handler) for handler in self.runtime.registry.handlers()]

    def metrics(self) -> dict[str, Any]:
        return self.runtime.insights.metrics(self.tenant_id)

    def workers(self) -> Workers:
        return self.runtime.insights.workers()


class RuntimeDeadLetters(DeadLetterCalls):
    def __init__(self, calls: RuntimeCalls) -> None:
        self._calls = calls

    def list(
        self,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        items, next_cursor = self._calls.runtime.dead_letters.list(
            self._calls.tenant_id, task=task, fingerprint=fingerprint, limit=limit, cursor=cursor
        )
        return TaskPage(items, next_cursor)

    def groups(self, *, limit: int = 100) -> Groups:
        return self._calls.runtime.dead_letters.groups(self._calls.tenant_id, limit=limit)

    def _redrive(self, selection: Selection, rate_per_second: float | None) -> int:
        return self._calls.runtime.dead_letters.redrive(
            self._calls.tenant_id,
            task_ids=selection.task_ids or (),
            task=selection.task,
            fingerprint=selection.fingerprint,
            rate_per_second=rate_per_second,
        )

    def _discard(self, selection: Selection) -> int:
        return self._calls.runtime.dead_letters.discard(
            self._calls.tenant_id,
            task_ids=selection.task_ids or (),
            task=selection.task,
            fingerprint=selection.fingerprint,
        )


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1_000_000)
