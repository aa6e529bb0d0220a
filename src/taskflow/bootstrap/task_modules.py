"""The modules that register tasks."""

from __future__ import annotations

import traceback
from importlib import import_module
from pathlib import Path

from taskflow.core.errors import ConfigurationError, TaskFlowError
from taskflow.settings import Settings

_TASKFLOW = str(Path(__file__).parents[1])


def import_tasks(settings: Settings) -> None:
    """Import the modules of ``TASKFLOW_TASKS``. Raises ConfigurationError, whatever they raise."""
    for name in settings.tasks:
        if "/" in name or name.endswith(".py"):
            raise ConfigurationError(
                f"TASKFLOW_TASKS: {name!r} is a file; name the module, as `import` does: examples.sample_tasks"
            )
        try:
            import_module(name)
        except Exception as exc:
            raise ConfigurationError(
                f"TASKFLOW_TASKS: cannot import {name!r}: {_why(exc)}"
            ) from exc


def _why(exc: Exception) -> str:
    """In a line: what it is and where, unless it says so itself."""
    text = (str(exc).splitlines() or [""])[0]
    if isinstance(exc, ImportError | SyntaxError):
        return text
    what = text if isinstance(exc, TaskFlowError) else f"{type(exc).__name__}: {text}"
    frames = traceback.extract_tb(exc.__traceback__)
    *_, where = (frame for frame in frames if not frame.filename.startswith(_TASKFLOW))
    return f"{what} ({where.filename}, line {where.lineno})"
