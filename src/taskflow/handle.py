"""The handle of one submitted task: the same for an embedded app, a server far away and eager tests."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol

from taskflow.core.artifacts import Artifact
from taskflow.core.errors import ResultTimeoutError, TaskFailedError
from taskflow.core.events import Event
from taskflow.core.task import Returned, Task, TaskStatus


class Gateway(Protocol):
    """What a handle needs of the place its task lives in. All methods raise TaskNotFoundError."""

    def get(self, task_id: str) -> Task: ...

    def wait(self, task_id: str, timeout_seconds: float | None) -> Task:
        """The task once it is final, or as it is when the time is up. None: wait as long as it takes."""
        ...

    async def wait_async(self, task_id: str, timeout_seconds: float | None) -> Task:
        """`wait` without blocking the event loop."""
        ...

    def returned(self, task_id: str, timeout_seconds: float | None) -> Returned | Task:
        """What the handler returned, where that is quicker to be had than the task; else `wait`."""
        ...

    def cancel(self, task_id: str) -> Task: ...

    def retry(self, task_id: str) -> Task: ...

    def history(self, task_id: str) -> list[Event]: ...

    def artifacts(self, task_id: str) -> list[Artifact]: ...

    def artifact(self, task_id: str, name: str) -> bytes:
        """Raises ArtifactNotFoundError."""
        ...


class Progress(NamedTuple):
    """What the handler reported last. ``percent`` is 0 to 100, None before the first report."""

    percent: float | None
    message: str | None


class TaskHandle:
    """One task by its id. Holds no state of it: every question is answered by the store at that moment.

    Thread safe; usable for as long as the app or client that made it is open. ``replayed`` tells that an earlier
    submission with the same idempotency key had made the task.
    """

    __slots__ = ("_gateway", "id", "replayed")

    def __init__(self, gateway: Gateway, task_id: str, *, replayed: bool = False) -> None:
        self._gateway = gateway
        self.id = task_id
        self.replayed = replayed

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}>"

    def __await__(self) -> Generator[Any, None, Any]:
        """``await handle`` is ``await handle.result_async()``."""
        return self.result_async().__await__()

    def task(self) -> Task:
        """The whole task as it is now. Raises TaskNotFoundError once it was purged."""
        return self._gateway.get(self.id)

    def status(self) -> TaskStatus:
        return self.task().status

    def progress(self) -> Progress:
        task = self.task()
        return Progress(task.progress, task.progress_message)

    def history(self) -> list[Event]:
        """Every transition of the task, oldest first."""
        return self._gateway.history(self.id)

    def artifacts(self) -> list[Artifact]:
        """The files its handler left so far, by name, whatever became of the task."""
        return self._gateway.artifacts(self.id)

    def artifact(self, name: str) -> bytes:
        """The content of one of them. Raises ArtifactNotFoundError."""
        return self._gateway.artifact(self.id, name)

    def wait(self, timeout: float | None = None) -> Task:
        """The task once it is final, however it ended. Raises ResultTimeoutError after ``timeout`` seconds."""
        return _finished(self._gateway.wait(self.id, timeout), timeout)

    async def wait_async(self, timeout: float | None = None) -> Task:  # noqa: ASYNC109 - as in `wait`
        return _finished(await self._gateway.wait_async(self.id, timeout), timeout)

    def result(self, timeout: float | None = None) -> Any:
        """What the handler returned, after its journey through JSON.

        Waits up to ``timeout`` seconds (None: as long as it takes). Raises ResultTimeoutError (the task goes on), and
        TaskFailedError when the task failed, was cancelled or expired; the handler's traceback is in its notes.
        """
        answer = self._gateway.returned(self.id, timeout)
        return answer.value if isinstance(answer, Returned) else _value(_finished(answer, timeout))

    async def result_async(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as in `result`
        """`result` for coroutines: the event loop goes on meanwhile."""
        return _value(await self.wait_async(timeout))

    def cancel(self) -> Task:
        """A waiting task is cancelled at once, a running one as soon as its worker heeds it.

        Raises InvalidTransitionError when the task is final already.
        """
        return self._gateway.cancel(self.id)

    def retry(self) -> Task:
        """Run a final task anew, with all its retries. Raises InvalidTransitionError unless it is final."""
        return self._gateway.retry(self.id)


def _finished(task: Task, timeout_seconds: float | None) -> Task:
    if not task.status.is_final:
        waited = "" if timeout_seconds is None else f" after {timeout_seconds:g} s"
        raise ResultTimeoutError(
            f"task {task.task_id} ({task.task}) is still {task.status}{waited}; it goes on"
        )
    return task


def _value(task: Task) -> Any:
    if task.status is TaskStatus.COMPLETED:
        return task.result
    why = f": {task.error.type}: {task.error.message}" if task.error is not None else ""
    failure = TaskFailedError(
        f"task {task.task_id} ({task.task}) {_ENDED[task.status]}{why}",
        task_id=task.task_id,
        status=task.status,
        error=task.error.model_dump(mode="json") if task.error is not None else None,
    )
    if task.error is not None and task.error.traceback:
        failure.add_note(f"In the worker:\n{task.error.traceback}")
    raise failure


_ENDED = {
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "was cancelled",
    TaskStatus.EXPIRED: "expired before it could start",
}
