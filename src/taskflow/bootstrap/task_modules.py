"""The modules that register tasks."""

from __future__ import annotations

from importlib import import_module

from taskflow.core.errors import ConfigurationError
from taskflow.settings import Settings


def import_tasks(settings: Settings) -> None:
    """Import the modules of ``TASKFLOW_TASKS``. Raises ConfigurationError."""
    for name in settings.tasks:
        try:
            import_module(name)
        except ImportError as exc:
            raise ConfigurationError(f"TASKFLOW_TASKS: cannot import {name!r}: {exc}") from exc
