"""`Client`: the calls of an embedded `TaskFlow`, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from taskflow.calls.dead_letters import DeadLetterCalls, Groups, Selection
from taskflow.calls.tasks import Answers, Artifacts, Events, TaskCalls, Workers
from taskflow.calls.views import HandlerInfo, TaskPage, TaskQuery
from taskflow.client import wire
from taskflow.client.batches import Batches
from taskflow.client.downloads import Downloads
from taskflow.client.problems import error_of_problem
from taskflow.client.transport import Transport
from taskflow.core import jsontext
from taskflow.core.artifacts import is_name
from taskflow.core.errors import (
    ArtifactNotFoundError,
    InvalidArgumentsError,
    InvalidRequestError,
    PayloadMissingError,
    TaskFlowError,
    TaskNotFoundError,
)
from taskflow.core.ids import is_uuid
from taskflow.core.submission import Submission
from taskflow.core.task import Task
from taskflow.handle import TaskHandle

_HISTORY_PAGE = 1_000
_LONG_POLL_SECONDS = 20.0  # how long one request waits for a task; servers allow at most 30
_SHORTEST_POLL_SECONDS = 0.05  # between requests, when a server allows no waiting


class Client(TaskCalls):
    """Talks to the TaskFlow server at ``url``. ``timeout`` in seconds for one request, waiting for a task not counted.

    Thread safe. What fails on the way is repeated a few times; submissions carry an idempotency key, so a repeated one
    never makes a second task. Raises the errors that the embedded app would, and ServerUnavailableError. Options that
    the server alone knows (handlers, limits, defaults) are checked there. Close it, or use it as a context manager.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._transport = Transport(url, timeout_seconds=timeout)
        self._downloads = Downloads(timeout_seconds=timeout)
        self._batches = Batches(partial(self._send, "/api/v1/tasks/batch"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    @property
    def url(self) -> str:
        return str(self._transport.url)

    def close(self) -> None:
        """Further calls, also those of handles made here, raise ServerUnavailableError."""
        self._transport.close()
        self._downloads.close()

    def submit_task(self, submission: Submission, connection: Any = None) -> TaskHandle:
        _refuse_connection(connection)
        return self._handle(submission, self._send("/api/v1/tasks", wire.body_of(submission)))

    def submit_batch(self, submissions: Sequence[Submission], connection: Any = None) -> Answers:
        _refuse_connection(connection)
        answers: dict[int, TaskHandle | TaskFlowError] = {}
        bodies: dict[int, dict[str, Any]] = {}
        for index, submission in enumerate(submissions):
            try:
                bodies[index] = wire.body_of(submission)
            except InvalidArgumentsError as exc:
                answers[index] = exc
        if bodies:
            for index, item in zip(bodies, self._batches.submit([*bodies.values()]), strict=True):
                if isinstance(item, TaskFlowError):
                    answers[index] = item
                elif "task_id" in item:
                    answers[index] = self._handle(submissions[index], item)
                else:
                    answers[index] = error_of_problem(item)
        return [answers[index] for index in range(len(submissions))]

    def get(self, task_id: str) -> Task:
        return self._with_result(wire.task_of(self._get(_path(task_id))))

    def wait(self, task_id: str, timeout_seconds: float | None) -> Task:
        until = _Until(timeout_seconds)
        while True:
            seconds = until.next_seconds()
            data = self._transport.request(
                "GET",
                _path(task_id),
                params={"wait": seconds},
                repeatable=True,
                extra_seconds=seconds,
            )
            task = wire.task_of(data)
            if task.status.is_final or until.over:
                return self._with_result(task)
            time.sleep(until.pause_seconds())

    async def wait_async(self, task_id: str, timeout_seconds: float | None) -> Task:
        until = _Until(timeout_seconds)
        while True:
            seconds = until.next_seconds()
            data = await self._transport.get_async(
                _path(task_id), params={"wait": seconds}, extra_seconds=seconds
            )
            task = wire.task_of(data)
            if task.status.is_final or until.over:
                return await asyncio.to_thread(self._with_result, task)
            await asyncio.sleep(until.pause_seconds())

    def cancel(self, task_id: str) -> Task:
        return wire.task_of(self._do(_path(task_id, "cancel")))

    def retry(self, task_id: str) -> Task:
        return wire.task_of(self._do(_path(task_id, "retry")))

    def history(self, task_id: str) -> Events:
        events: Events = []
        cursor: str | None = None
        while True:
            page = self._get(_path(task_id, "history"), limit=_HISTORY_PAGE, cursor=cursor)
            events += [wire.event_of(item) for item in wire.items_of(page)]
            cursor = page.get("next_cursor")
            if cursor is None:
                return events

    def artifacts(self, task_id: str) -> Artifacts:
        page = self._get(_path(task_id, "artifacts"))
        return [wire.artifact_of(item) for item in wire.items_of(page)]

    def artifact(self, task_id: str, name: str) -> bytes:
        if not is_name(name):  # as with ids: not every text may be a path
            raise ArtifactNotFoundError(f"task {task_id} has no artifact {name!r:.80}")
        content, elsewhere = self._transport.content(f"{_path(task_id, 'artifacts')}/{name}")
        return content if elsewhere is None else self._downloads.get(elsewhere)

    def find(self, query: TaskQuery, *, limit: int, cursor: str | None) -> TaskPage:
        params = wire.params_of(query, limit=limit, cursor=cursor)
        return wire.page_of(self._get("/api/v1/tasks", **params))

    @property
    def dead_letters(self) -> DeadLetterCalls:
        return _DeadLetters(self)

    def handlers(self) -> Sequence[HandlerInfo]:
        return [wire.handler_of(item) for item in wire.items_of(self._get("/api/v1/handlers"))]

    def metrics(self) -> dict[str, Any]:
        metrics: dict[str, Any] = self._get("/api/v1/metrics")
        return metrics

    def workers(self) -> Workers:
        return [wire.worker_of(item) for item in wire.items_of(self._get("/api/v1/workers"))]

    def _handle(self, submission: Submission, data: Mapping[str, Any]) -> TaskHandle:
        # A replay under a key that was made up here is our own repetition. A single one is answered with the whole
        # task, which has no such field.
        replayed = submission.options.idempotency_key is not None and data.get("replayed", True)
        return TaskHandle(self, data["task_id"], replayed=replayed)

    def _with_result(self, task: Task) -> Task:
        """A large result is read from where the server says. Raises PayloadMissingError, PayloadCorruptError."""
        for last in (False, True):
            if task.result_url is None:
                break
            try:
                task.result = jsontext.loads(self._downloads.get(task.result_url))
                break
            except PayloadMissingError:
                # The address has expired, or the task was run again: the server knows the present one.
                if last:
                    raise
                task = wire.task_of(self._get(_path(task.task_id)))
        return task

    def _get(self, path: str, **params: Any) -> Any:
        return self._transport.request("GET", path, params=params, repeatable=True)

    def _send(self, path: str, body: Any) -> Any:
        """A submission: its idempotency keys make it repeatable."""
        return self._transport.request("POST", path, body=body, repeatable=True)

    def _do(self, path: str, body: Any = None) -> Any:
        """Doing this twice may mean something else than once."""
        return self._transport.request("POST", path, body=body, repeatable=False)


class _DeadLetters(DeadLetterCalls):
    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        task: str | None = None,
        fingerprint: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        params = {"task": task, "fingerprint": fingerprint, "limit": limit, "cursor": cursor}
        return wire.page_of(self._client._get("/api/v1/dead-letters", **params))

    def groups(self, *, limit: int = 100) -> Groups:
        page = self._client._get("/api/v1/dead-letters/groups", limit=limit)
        return [wire.group_of(item) for item in wire.items_of(page)]

    def _redrive(self, selection: Selection, rate_per_second: float | None) -> int:
        body = wire.selection_of(selection) | {"rate_per_second": rate_per_second}
        return int(self._client._do("/api/v1/dead-letters/redrive", body)["redriven"])

    def _discard(self, selection: Selection) -> int:
        body = wire.selection_of(selection)
        return int(self._client._do("/api/v1/dead-letters/discard", body)["discarded"])


class _Until:
    """Cuts a wait of any length into requests that a server is ready to hold back."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._ends = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._asked = 0.0
        self._seconds = 0.0

    @property
    def over(self) -> bool:
        return self._ends is not None and time.monotonic() >= self._ends

    def next_seconds(self) -> float:
        self._asked = time.monotonic()
        left = _LONG_POLL_SECONDS if self._ends is None else max(0.0, self._ends - self._asked)
        self._seconds = min(_LONG_POLL_SECONDS, left)
        return self._seconds

    def pause_seconds(self) -> float:
        """Nothing after a request that was held back, else enough not to hammer the server."""
        held = time.monotonic() - self._asked
        return max(0.0, min(self._seconds, _SHORTEST_POLL_SECONDS) - held)


def _refuse_connection(connection: Any) -> None:
    if connection is not None:
        raise InvalidRequestError(
            "connection: a server cannot join a transaction of this process; "
            "submit with a TaskFlow on the same database"
        )


def _path(task_id: str, action: str = "") -> str:
    if not is_uuid(task_id):  # a handle may be made from any text, a path may not
        raise TaskNotFoundError(f"no task has the id {task_id!r}")
    return f"/api/v1/tasks/{task_id}" + (f"/{action}" if action else "")
