"""Where a command finds its tasks: at a server, or in the store itself."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from taskflow.app import TaskFlow
    from taskflow.calls.tasks import TaskCalls
    from taskflow.settings import Settings

_PROBE_SECONDS = 1.0


def settings_here(**overrides: Any) -> Settings:
    """The settings of this directory, whose modules can be imported as ``python -m`` could."""
    from taskflow.settings import load

    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return load(**overrides)


@contextmanager
def connected(url: str | None, *, create: bool = False, tasks: bool = False) -> Iterator[TaskCalls]:
    """The server at ``url`` or TASKFLOW_URL; without either the one on this machine if it answers, else the store.

    ``create`` makes the store if there is none; ``tasks`` imports the modules of TASKFLOW_TASKS, if it is opened.
    """
    settings = settings_here()
    chosen = url or settings.url
    if chosen or _answers(settings.resolved_url):
        from taskflow.client import Client

        with Client(chosen or settings.resolved_url) as client:
            yield client
    else:
        with opened_store(settings, create=create, tasks=tasks) as app:
            yield app


@contextmanager
def opened_store(
    settings: Settings, *, create: bool = False, tasks: bool = False
) -> Iterator[TaskFlow]:
    """The store of these settings, without workers. Raises ConfigurationError when there is none."""
    missing = None if create else missing_store(settings)
    if missing is not None:
        raise ConfigurationError(
            f"no server answers at {settings.resolved_url}, and there is no store at {missing}: "
            "start `taskflow dev`, or set TASKFLOW_HOME or TASKFLOW_URL"
        )
    from taskflow.app import TaskFlow

    changes: dict[str, Any] = {"num_workers": 0} | ({} if tasks else {"tasks": ()})
    with TaskFlow(settings, **changes) as app:
        yield app


def missing_store(settings: Settings) -> Path | None:
    """Where the SQLite file should be, if it is not there."""
    prefix = "sqlite:///"
    if settings.backend == "aws" and not settings.database_url:
        return None  # its database is nowhere else if it is not named: whoever opens it says so
    if not settings.resolved_database_url.startswith(prefix):
        return None
    path = Path(settings.resolved_database_url.removeprefix(prefix))
    return None if path.exists() else path


def _answers(url: str) -> bool:
    """Whether a TaskFlow server is there. Something else may well listen on port 8000."""
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname, address.port), _PROBE_SECONDS).close()
    except OSError:
        return False
    import httpx

    try:
        health = httpx.get(f"{url}/health", timeout=_PROBE_SECONDS, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return False
    # A server that is about to stop answers with a problem.
    return isinstance(health, dict) and ("version" in health or health.get("code") == "not_ready")
