"""Calls about tasks: submit them, ask about them, control them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, overload

from taskflow.calls.dead_letters import DeadLetterCalls
from taskflow.calls.views import HandlerInfo, TaskPage, TaskQuery
from taskflow.core.artifacts import Artifact
from taskflow.core.errors import InvalidRequestError, TaskFlowError
from taskflow.core.events import Event
from taskflow.core.registry import Handler
from taskflow.core.submission import NO_OPTIONS, Submission, SubmitOptions
from taskflow.core.task import Returned, Task
from taskflow.handle import TaskHandle
from taskflow.ports.metadata import WorkerRecord

BATCH_SIZE = 1_000  # submissions in one transaction, or one request of `submit_many`

# Aliases, because inside a class with a method `list` the name no longer means the type.
Handles = list[TaskHandle]
Answers = list[TaskHandle | TaskFlowError]
Events = list[Event]
Workers = list[WorkerRecord]
Artifacts = list[Artifact]

Call = tuple[str | Handler[..., Any], Sequence[Any], Mapping[str, Any]]


class TaskCalls(ABC):
    """Submit tasks and ask about them. Thread safe. A `TaskHandle`'s gateway, and a registry's submitter."""

    @abstractmethod
    def submit_batch(self, submissions: Sequence[Submission], connection: Any = None) -> Answers:
        """At most `BATCH_SIZE` submissions; each one's handle or error, in order. Those accepted are durable, with
        ``connection`` once its transaction has been committed."""

    @abstractmethod
    def get(self, task_id: str) -> Task: ...

    @abstractmethod
    def wait(self, task_id: str, timeout_seconds: float | None) -> Task: ...

    @abstractmethod
    async def wait_async(self, task_id: str, timeout_seconds: float | None) -> Task: ...

    def returned(self, task_id: str, timeout_seconds: float | None) -> Returned | Task:
        """For `TaskHandle.result`: what the handler returned, where that is quicker to be had than the task."""
        return self.wait(task_id, timeout_seconds)

    @abstractmethod
    def cancel(self, task_id: str) -> Task: ...

    @abstractmethod
    def retry(self, task_id: str) -> Task: ...

    @abstractmethod
    def history(self, task_id: str) -> Events: ...

    @abstractmethod
    def artifacts(self, task_id: str) -> Artifacts:
        """The files that the task's handler left, by name."""

    @abstractmethod
    def artifact(self, task_id: str, name: str) -> bytes:
        """The content of one of them. Raises ArtifactNotFoundError."""

    @abstractmethod
    def find(self, query: TaskQuery, *, limit: int, cursor: str | None) -> TaskPage:
        """`list` with a ready query."""

    @property
    @abstractmethod
    def dead_letters(self) -> DeadLetterCalls: ...

    @abstractmethod
    def handlers(self) -> Sequence[HandlerInfo]:
        """The tasks that can be submitted, by name."""

    @abstractmethod
    def metrics(self) -> dict[str, Any]:
        """As `GET /api/v1/metrics`: counts by status and priority, totals, latencies in ms."""

    @abstractmethod
    def workers(self) -> Workers:
        """Worker processes that have reported lately."""

    def submit(self, task: str | Handler[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
        """Accept one task; it is durable once this returns.

        ``task`` is a handler or its name; the rest are its arguments (options: `options`). Raises UnknownTaskError,
        InvalidArgumentsError, PayloadTooLargeError, QueueFullError, StoreUnavailableError.

        ``connection=`` a connection of SQLAlchemy, psycopg2 or sqlite3 to the database that the store is in: the task
        exists exactly if the transaction on it commits. It starts within about a second of that. Raises
        InvalidRequestError for a connection that cannot be joined.
        """
        connection = kwargs.pop("connection") if _commits(kwargs.get("connection")) else None
        return self.submit_task(Submission(_name(task), args, kwargs), connection)

    def options(self, *, connection: Any = None, **options: Any) -> BoundCalls:
        """``app.options(priority="high", delay=60).submit("send_email", …)``. Names as in `SubmitOptions`;
        ``connection`` as in `submit`."""
        return BoundCalls(self, SubmitOptions.of(**options), connection)

    def submit_task(self, submission: Submission, connection: Any = None) -> TaskHandle:
        """`submit` with everything in one object. Raises the same errors."""
        [answer] = self.submit_batch([submission], connection)
        if isinstance(answer, TaskFlowError):
            raise answer
        return answer

    @overload
    def submit_many(
        self,
        submissions: Iterable[Submission | Call],
        *,
        return_errors: Literal[False] = False,
        connection: Any = None,
    ) -> Handles: ...

    @overload
    def submit_many(
        self,
        submissions: Iterable[Submission | Call],
        *,
        return_errors: bool,
        connection: Any = None,
    ) -> Answers: ...

    def submit_many(
        self,
        submissions: Iterable[Submission | Call],
        *,
        return_errors: bool = False,
        connection: Any = None,
    ) -> Handles | Answers:
        """Accept many tasks, `BATCH_SIZE` at a time: the quick way to submit in bulk. Answers come in order.

        Items are `Submission` or ``(task, args, kwargs)``; a generator is read as it is needed. By default the first
        error is raised, once the batch it is in was answered: earlier batches and the good items of that one *are*
        accepted, later items were not looked at (the error's note counts them). With ``return_errors`` nothing is
        raised for an item: its error stands in its place. To repeat such a call safely give idempotency keys.
        ``connection`` as in `submit`.
        """
        answers: Answers = []
        items = iter(submissions)
        while batch := [
            _submission(item, len(answers) + i) for i, item in enumerate(islice(items, BATCH_SIZE))
        ]:
            answers += self.submit_batch(batch, connection)
            if not return_errors:
                _raise_first_error(answers, since=len(answers) - len(batch))
        return answers

    def list(self, *, limit: int = 50, cursor: str | None = None, **filters: Any) -> TaskPage:
        """Newest first. Filters as in `TaskQuery`, e.g. ``status="failed"``, ``task="send_email"``, ``tag="eu"``.

        Raises InvalidRequestError, and InvalidCursorError for a cursor of another query.
        """
        return self.find(TaskQuery.of(**filters), limit=limit, cursor=cursor)

    def handle(self, task_id: str) -> TaskHandle:
        """A handle for an id from elsewhere. Whether it exists shows when it is used."""
        return TaskHandle(self, task_id)


class BoundCalls:
    """Calls with options for the tasks about to be submitted."""

    def __init__(self, calls: TaskCalls, options: SubmitOptions, connection: Any) -> None:
        self._calls = calls
        self._options = options
        self._connection = connection

    def submit(self, task: str | Handler[..., Any], /, *args: Any, **kwargs: Any) -> TaskHandle:
        return self._calls.submit_task(
            Submission(_name(task), args, kwargs, self._options), self._connection
        )


def _commits(value: object) -> bool:
    """Whether it is a connection, or session, of any making: no argument that JSON could carry is."""
    return hasattr(value, "commit") and hasattr(value, "rollback")


def _name(task: str | Handler[..., Any]) -> str:
    if isinstance(task, Handler):
        return task.name
    if isinstance(task, str):
        return task
    raise InvalidRequestError(
        f"submit needs a task's name or a function decorated with @task, not {task!r}"
    )


def _submission(item: Submission | Call, index: int) -> Submission:
    if isinstance(item, Submission):
        return item
    match item:
        case (task, list() | tuple() as args, Mapping() as kwargs):
            return Submission(_name(task), args, kwargs, NO_OPTIONS)
    raise InvalidRequestError(f"item {index} is neither a Submission nor (task, args, kwargs)")


def _raise_first_error(answers: Answers, *, since: int) -> None:
    for index in range(since, len(answers)):
        answer = answers[index]
        if isinstance(answer, TaskFlowError):
            accepted = sum(isinstance(answer, TaskHandle) for answer in answers)
            answer.add_note(
                f"Item {index} of submit_many. {accepted} of the first {len(answers)} items were accepted, "
                "later ones were not looked at; return_errors=True gives an answer for each."
            )
            raise answer
