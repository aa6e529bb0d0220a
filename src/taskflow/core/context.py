"""What a running handler may ask and say: annotate a parameter with `TaskContext` to receive it."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping
from typing import IO, Any, Protocol, runtime_checkable

from taskflow.core.artifacts import Artifact


class ContextLog(Protocol):
    """A structured logger that already carries task id, tenant and attempt."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


class TaskArtifacts(Protocol):
    """Files of the task this attempt belongs to. They can be read from outside as soon as they are put, and stay with
    the task whatever becomes of it: what was put last under a name counts, an earlier attempt's included.

    In a coroutine use the ``…_async`` twins: the others keep the event loop, which is everybody's, waiting.
    """

    def put(
        self,
        name: str,
        data: bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | IO[str],
        content_type: str | None = None,
    ) -> None:
        """Durable once this returns. ``data``: bytes, text (stored as UTF-8), the path of a file, or an open file,
        which is read from where it is. ``content_type``: by default what the ending of ``name`` says.

        Raises InvalidRequestError (name, type, too many), PayloadTooLargeError, StoreUnavailableError, and
        LeaseLostError when the attempt is over: its successor's artifacts are safe from it.
        """
        ...

    def get(self, name: str) -> bytes:
        """Raises ArtifactNotFoundError."""
        ...

    def list(self) -> builtins.list[Artifact]:
        """By name."""
        ...

    async def put_async(
        self,
        name: str,
        data: bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | IO[str],
        content_type: str | None = None,
    ) -> None: ...

    async def get_async(self, name: str) -> bytes: ...


@runtime_checkable
class TaskContext(Protocol):
    """The attempt a handler is running in. Safe to use from threads the handler starts.

    ``cancelled`` turns True when the task was cancelled or its worker is about to stop it; a handler that looks at
    it can end in good order. ``progress`` may be called at any rate: the newest value is written a few times a second.
    ``traceparent`` is the W3C trace context that the task was submitted in, if any; what the handler submits is in the
    same.
    """

    task_id: str
    tenant_id: str
    task: str
    attempt: int
    traceparent: str | None
    metadata: Mapping[str, Any]
    log: ContextLog

    @property
    def artifacts(self) -> TaskArtifacts: ...

    @property
    def cancelled(self) -> bool: ...

    @property
    def seconds_left(self) -> float:
        """Until this attempt times out."""
        ...

    def progress(self, percent: float, message: str | None = None) -> None:
        """Report 0 to 100, with a message of at most 500 characters. Raises ValueError outside of it."""
        ...
