"""What a running handler may ask and say: annotate a parameter with `TaskContext` to receive it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


class ContextLog(Protocol):
    """A structured logger that already carries task id, tenant and attempt."""

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...


@runtime_checkable
class TaskContext(Protocol):
    """The attempt a handler is running in. Safe to use from threads the handler starts.

    ``cancelled`` turns True when the task was cancelled or its worker is about to stop it; a handler that looks at
    it can end in good order. ``progress`` may be called at any rate: the newest value is written a few times a second.
    """

    task_id: str
    tenant_id: str
    task: str
    attempt: int
    metadata: Mapping[str, Any]
    log: ContextLog

    @property
    def cancelled(self) -> bool: ...

    @property
    def seconds_left(self) -> float:
        """Until this attempt times out."""
        ...

    def progress(self, percent: float, message: str | None = None) -> None:
        """Report 0 to 100, with a message of at most 500 characters. Raises ValueError outside of it."""
        ...
