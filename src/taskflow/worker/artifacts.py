"""`ctx.artifacts`: what handlers call, and how it reaches the store from this process."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

from taskflow.core.artifacts import Artifact, checked_content_type, checked_name
from taskflow.core.errors import InvalidRequestError
from taskflow.ports.metadata import ClaimedTask
from taskflow.services.artifacts import Artifacts, check_size

_List = list  # inside a class with a method `list` the name no longer means the type

Data = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | IO[str]


class ContextArtifacts(ABC):
    """See `taskflow.core.context.TaskArtifacts`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def put(self, name: str, data: Data, content_type: str | None = None) -> None:
        # Checked before anything is read or sent: a wrong name should not cost megabytes.
        checked_name(name)
        checked_content_type(content_type, name)
        self._put(name, body_of(name, data, self._max_bytes), content_type)

    async def put_async(self, name: str, data: Data, content_type: str | None = None) -> None:
        await asyncio.to_thread(self.put, name, data, content_type)

    @abstractmethod
    def get(self, name: str) -> bytes: ...

    async def get_async(self, name: str) -> bytes:
        return await asyncio.to_thread(self.get, name)

    @abstractmethod
    def list(self) -> _List[Artifact]: ...

    @abstractmethod
    def _put(self, name: str, body: bytes, content_type: str | None) -> None: ...


class AttemptArtifacts(ContextArtifacts):
    """Of a handler in this process."""

    def __init__(self, artifacts: Artifacts, task: ClaimedTask) -> None:
        super().__init__(artifacts.max_bytes)
        self._artifacts = artifacts
        self._task = task

    def get(self, name: str) -> bytes:
        return self._artifacts.get(self._task.tenant_id, self._task.task_id, name)

    def list(self) -> _List[Artifact]:
        return self._artifacts.list(self._task.tenant_id, self._task.task_id)

    def _put(self, name: str, body: bytes, content_type: str | None) -> None:
        self._artifacts.put(self._task, name, body, content_type)


def body_of(name: str, data: Any, max_bytes: int) -> bytes:
    """The bytes of ``data``; of a file no more than ``max_bytes`` are read. Text is UTF-8.

    Raises PayloadTooLargeError, InvalidRequestError for what is no data, and what reading it raises.
    """
    match data:
        case bytes():
            body = data
        case bytearray() | memoryview():
            body = bytes(data)
        case str():
            body = data.encode()
        case os.PathLike():
            path = Path(data)
            check_size(name, path.stat().st_size, max_bytes)
            body = path.read_bytes()
        case _ if callable(getattr(data, "read", None)):
            content = data.read(max_bytes + 1)
            body = content.encode() if isinstance(content, str) else bytes(content)
        case _:
            raise InvalidRequestError(
                f"artifact {name}: data must be bytes, text, a path or an open file, not {type(data).__name__}"
            )
    check_size(name, len(body), max_bytes)
    return body
