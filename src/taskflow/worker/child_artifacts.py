"""Artifacts of handlers in child processes: asked for over the socket, answered by the parent, which has the store."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Mapping
from typing import Any

from taskflow.core import errors
from taskflow.core.artifacts import Artifact
from taskflow.core.errors import LeaseLostError, TaskFlowError
from taskflow.ports.metadata import ClaimedTask
from taskflow.services.artifacts import Artifacts
from taskflow.worker.artifacts import AttemptArtifacts, ContextArtifacts

_List = list  # inside a class with a method `list` the name no longer means the type


class Questions:
    """In the child: what was asked and not yet answered. Thread safe."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[int, queue.SimpleQueue[tuple[dict[str, Any], bytes | None]]] = {}

    def ask(self, body: bytes = b"", **question: Any) -> tuple[Any, bytes]:
        """The value and the body of the answer. Raises the TaskFlowError that the parent met, MemoryError."""
        number = next(self._numbers)
        answers = self._open[number] = queue.SimpleQueue()
        try:
            self._send(body, type="artifact", number=number, **question)
            answer, content = answers.get()
        finally:
            del self._open[number]
        if (error := answer.get("error")) is not None:
            kind = getattr(errors, error["type"], TaskFlowError)
            raise kind(error["detail"], fields=error["fields"])
        if content is None:
            raise MemoryError
        return answer["value"], content

    def answered(self, message: dict[str, Any], body: bytes | None) -> None:
        """``body``: None when there was no room for it."""
        if (answers := self._open.get(message["number"])) is not None:
            answers.put((message, body))


class ChildArtifacts(ContextArtifacts):
    """`ctx.artifacts` in the child. Says for which attempt it speaks: a thread that a handler leaves behind must not
    write into the task that this process works on next."""

    def __init__(self, questions: Questions, request: Mapping[str, Any]) -> None:
        super().__init__(request["max_artifact_bytes"])
        self._questions = questions
        self._whose = {name: request["context"][name] for name in ("task_id", "attempt")}

    def get(self, name: str) -> bytes:
        _, content = self._ask(do="get", name=name)
        return content

    def list(self) -> _List[Artifact]:
        items, _ = self._ask(do="list")
        return [Artifact.model_validate(item) for item in items]

    def _put(self, name: str, body: bytes, content_type: str | None) -> None:
        self._ask(body, do="put", name=name, content_type=content_type)

    def _ask(self, body: bytes = b"", **question: Any) -> tuple[Any, bytes]:
        return self._questions.ask(body, **self._whose, **question)


def answer_to(
    question: Mapping[str, Any], artifacts: Artifacts, task: ClaimedTask
) -> tuple[dict[str, Any], bytes]:
    """In the parent: do what the child's handler asked for. A TaskFlowError becomes the answer.

    Question and answer have a body each: what is put, and what was got.
    """
    body = b""
    answer: dict[str, Any] = {"type": "answer", "number": question["number"], "value": None}
    try:
        if (question["task_id"], question["attempt"]) != (task.task_id, task.attempt):
            raise LeaseLostError("artifacts: the attempt that asks has ended")
        here = AttemptArtifacts(artifacts, task)
        match question["do"]:
            case "put":
                here.put(question["name"], question["body"], question["content_type"])
            case "get":
                body = here.get(question["name"])
            case "list":
                answer["value"] = [item.model_dump(mode="json") for item in here.list()]
    except TaskFlowError as exc:
        answer["error"] = {"type": type(exc).__name__, "detail": exc.detail, "fields": exc.fields}
    return answer, body
