"""What people ask about tasks, and do to them by hand."""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TypeVar

import orjson

from taskflow.core.errors import (
    InvalidCursorError,
    InvalidRequestError,
    InvalidTransitionError,
    PayloadMissingError,
    TaskNotFoundError,
)
from taskflow.core.events import Event
from taskflow.core.ids import is_uuid
from taskflow.core.task import FINAL, Returned, Task, TaskStatus
from taskflow.ports.metadata import TaskFilter, TaskKey, TaskStore
from taskflow.services.completions import Completions
from taskflow.services.counters import Counters
from taskflow.services.payload_reading import with_payloads
from taskflow.services.payloads import Payloads
from taskflow.services.sending import Sending

_POLL_SECONDS = 0.5  # for tasks that end in another process
_MOMENT_SECONDS = 0.01  # before the store is asked about a task that is queued in this one

T = TypeVar("T")


class Tasks:
    """Thread safe. Every method is scoped to one tenant: another's task is as good as unknown (TaskNotFoundError).

    ``links``: a large result that the payload store can give an address for is not read; the task has its
    ``result_url`` instead. For callers that hand tasks on to others. ``is_queued`` (tenant, task id): whether a message
    of the task is in this process.
    """

    def __init__(
        self,
        store: TaskStore,
        *,
        payloads: Payloads,
        sending: Sending,
        completions: Completions,
        counters: Counters,
        is_queued: Callable[[str, str], bool],
    ) -> None:
        self._store = store
        self._is_queued = is_queued
        self._payloads = payloads
        self._sending = sending
        self._completions = completions
        self._counters = counters
        self._on_cancel: list[Callable[[Sequence[TaskKey]], None]] = []

    def on_cancel(self, callback: Callable[[Sequence[TaskKey]], None]) -> None:
        """A worker in this process asks to be told at once which tasks are to be cancelled."""
        self._on_cancel.append(callback)

    def get(self, tenant_id: str, task_id: str, *, links: bool = False) -> Task:
        """Raises TaskNotFoundError; PayloadMissingError or PayloadCorruptError when its result cannot be read."""
        stored = self._store.get(tenant_id, [task_id]) if is_uuid(task_id) else []
        if not stored:
            raise _not_found(task_id)
        try:
            return with_payloads(stored, self._payloads, results_matter=True, links=links)[0]
        except PayloadMissingError:
            # Redriven or purged since the row was read?
            again = self._store.get(tenant_id, [task_id])
            if again and again[0].result_key == stored[0].result_key:
                raise
            return self.get(tenant_id, task_id, links=links)

    def get_many(self, tenant_id: str, task_ids: Sequence[str]) -> builtins.list[Task]:
        """In the order asked for; unknown ids are left out."""
        wanted = [task_id for task_id in dict.fromkeys(task_ids) if is_uuid(task_id)]
        found = with_payloads(self._store.get(tenant_id, wanted), self._payloads) if wanted else []
        by_id = {task.task_id: task for task in found}
        return [by_id[task_id] for task_id in wanted if task_id in by_id]

    def list(
        self,
        tenant_id: str,
        where: TaskFilter,
        *,
        limit: int,
        cursor: str | None,
        links: bool = False,
    ) -> tuple[builtins.list[Task], str | None]:
        """Newest first, with the cursor of the next page (None: no more).

        A page may have fewer tasks than asked for, or none, and a cursor all the same: no more were found among as many
        as the store looks at for one page. Raises InvalidRequestError for the limit, InvalidCursorError.
        """
        check_limit(limit)
        if cursor is not None and not is_uuid(cursor):
            raise InvalidCursorError(
                "cursor: not one of this API's", fields=[{"field": "cursor", "message": "unknown"}]
            )
        stored = self._store.list(tenant_id, where, limit=limit + 1, before=cursor)
        more = len(stored) > limit
        tasks = with_payloads(stored[:limit], self._payloads, links=links)
        if more:
            return tasks, tasks[-1].task_id
        return tasks, self._store.looked_until(tenant_id, where, before=cursor)

    def history(
        self, tenant_id: str, task_id: str, *, after: int = 0, limit: int = 1_000
    ) -> builtins.list[Event]:
        """Oldest first, after the event id ``after``."""
        events = (
            self._store.events(tenant_id, task_id, after=after, limit=limit)
            if is_uuid(task_id)
            else []
        )
        if not events and not self._store.final([self._key(tenant_id, task_id)]):
            raise _not_found(task_id)
        return events

    # --- by hand --------------------------------------------------------------------------------

    def cancel(self, tenant_id: str, task_id: str, *, request_id: str | None = None) -> Task:
        """A waiting task is cancelled when this returns, a running one is told to stop. ``request_id`` is kept in the
        task's history, as that of its submission is.

        Raises InvalidTransitionError when it is final already.
        """
        key = self._key(tenant_id, task_id)
        result = self._store.cancel([key], request_id=request_id)
        before = result.before[key]
        if before is None:
            raise _not_found(task_id)
        if before in FINAL:
            raise InvalidTransitionError(
                f"the task is {before.value} already; only waiting and running tasks can be cancelled"
            )
        self._completions.publish(result.ended)
        if result.ended:  # the task itself and, failed, what depends on it
            self._counters.ended_waiting(TaskStatus.CANCELLED)
            self._counters.ended_waiting(TaskStatus.FAILED, len(result.ended) - 1)
        if before is TaskStatus.RUNNING:
            for callback in self._on_cancel:
                callback([key])
        return self.get(tenant_id, task_id)

    def retry(self, tenant_id: str, task_id: str, *, request_id: str | None = None) -> Task:
        """Run a final task anew with all its retries. Raises InvalidTransitionError while it is not final."""
        key = self._key(tenant_id, task_id)
        result = self._store.redrive(
            [key],
            delay_seconds=[0.0],
            max_queue_delay_seconds=self._sending.max_delay_seconds,
            outbox=self._sending.needs_rows,
            request_id=request_id,
        )
        before = result.before[key]
        if before is None:
            raise _not_found(task_id)
        if before not in FINAL:
            raise InvalidTransitionError(
                f"the task is {before.value}; only final tasks can be retried"
            )
        self._sending.send(result.to_send)
        self._payloads.forget(result.payloads)
        return self.get(tenant_id, task_id)

    # --- waiting --------------------------------------------------------------------------------

    def wait(self, tenant_id: str, task_id: str, timeout_seconds: float | None) -> Task:
        """The task once it is final, or as it is when the time is up. Told at once of tasks that end in this process;
        of those that end elsewhere within half a second. Raises TaskNotFoundError."""
        key = self._key(tenant_id, task_id)
        return self._wait(key, timeout_seconds, lambda _: self._final(key))

    def returned(
        self, tenant_id: str, task_id: str, timeout_seconds: float | None
    ) -> Returned | Task:
        """`wait` for those who want what the handler returned and no more: nobody has to ask the store when the task
        completes in this process meanwhile."""
        key = self._key(tenant_id, task_id)

        def look(result: str | None) -> Returned | Task | None:
            return self._final(key) if result is None else Returned(orjson.loads(result))

        return self._wait(key, timeout_seconds, look)

    def _wait(
        self, key: TaskKey, timeout_seconds: float | None, look: Callable[[str | None], T | None]
    ) -> T | Task:
        """``look`` is called when the task is said to have ended; None: wait on."""
        told: SimpleQueue[str | None] = SimpleQueue()
        unsubscribe = self._completions.subscribe(key, lambda _, result: told.put(result))
        try:
            left = math.inf if timeout_seconds is None else timeout_seconds
            # Messages are acknowledged before anybody is told: most of what is queued here has its end before it.
            trusts = self._is_queued(*key)
            while left > 0:
                is_final = not trusts and self._store.final([key]).get(key, True)
                if is_final and (task := self._final(key)) is not None:
                    return task
                pause = min(_MOMENT_SECONDS if trusts else _POLL_SECONDS, left)
                trusts = False
                try:
                    result = told.get(timeout=pause)
                except Empty:
                    left -= pause
                else:
                    if (found := look(result)) is not None:
                        return found
            return self.get(*key)
        finally:
            unsubscribe()

    def _final(self, key: TaskKey) -> Task | None:
        """None: it was retried by hand in that instant; its next end is one of those looked for."""
        task = self.get(*key)
        return task if task.status.is_final else None

    async def wait_async(
        self, tenant_id: str, task_id: str, timeout_seconds: float, *, links: bool = False
    ) -> Task:
        """`wait` without blocking the event loop."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def notify(_: TaskKey, _result: str | None) -> None:
            loop.call_soon_threadsafe(ended.set)

        key = self._key(tenant_id, task_id)
        unsubscribe = self._completions.subscribe(key, notify)
        try:
            deadline = loop.time() + timeout_seconds
            while True:
                final = await asyncio.to_thread(self._store.final, [key])
                left = deadline - loop.time()
                is_final = final.get(key, True)
                if not is_final and left > 0:
                    try:
                        await asyncio.wait_for(ended.wait(), min(_POLL_SECONDS, left))
                    except TimeoutError:
                        continue
                task = await asyncio.to_thread(self.get, tenant_id, task_id, links=links)
                if task.status.is_final or left <= 0:
                    return task
                ended.clear()  # retried by hand in that instant
        finally:
            unsubscribe()

    # --- inside ---------------------------------------------------------------------------------

    @staticmethod
    def _key(tenant_id: str, task_id: str) -> TaskKey:
        if not is_uuid(task_id):
            raise _not_found(task_id)
        return TaskKey(tenant_id, task_id)


def check_limit(limit: object) -> None:
    """Of a page. Raises InvalidRequestError."""
    if not isinstance(limit, int) or limit < 1:
        message = f"must be a whole number from 1, not {limit!r:.60}"
        raise InvalidRequestError(
            f"limit: {message}", fields=[{"field": "limit", "message": message}]
        )


def _not_found(task_id: str) -> TaskNotFoundError:
    return TaskNotFoundError(f"there is no task {task_id[:64]!r}")
