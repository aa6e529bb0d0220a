"""TaskFlow: background tasks that are never lost. See README.md.

Names are imported when first used, so that `import taskflow` stays quick and pulls in no web framework or database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskflow.app import TaskFlow as TaskFlow
    from taskflow.client import Client as Client
    from taskflow.core.context import TaskContext as TaskContext
    from taskflow.core.errors import TaskFailedError as TaskFailedError
    from taskflow.core.errors import TaskFlowError as TaskFlowError
    from taskflow.core.registry import register_task_handler as register_task_handler
    from taskflow.core.registry import task as task
    from taskflow.core.retry import Reject as Reject
    from taskflow.core.retry import Retry as Retry
    from taskflow.core.retry import RetryPolicy as RetryPolicy
    from taskflow.core.task import Task as Task
    from taskflow.core.task import TaskPriority as TaskPriority
    from taskflow.core.task import TaskStatus as TaskStatus
    from taskflow.handle import TaskHandle as TaskHandle

__version__ = "0.1.0"

_HOMES = {
    "Client": "taskflow.client",
    "Reject": "taskflow.core.retry",
    "Retry": "taskflow.core.retry",
    "RetryPolicy": "taskflow.core.retry",
    "Task": "taskflow.core.task",
    "TaskContext": "taskflow.core.context",
    "TaskFailedError": "taskflow.core.errors",
    "TaskFlow": "taskflow.app",
    "TaskFlowError": "taskflow.core.errors",
    "TaskHandle": "taskflow.handle",
    "TaskPriority": "taskflow.core.task",
    "TaskStatus": "taskflow.core.task",
    "register_task_handler": "taskflow.core.registry",
    "task": "taskflow.core.registry",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - computed from the table above


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'taskflow' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
