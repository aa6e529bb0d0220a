"""The doctor's look at the home directory: space and permissions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from taskflow.services.finding import Finding, Health

_LITTLE_BYTES = 2**30
_TOO_LITTLE_BYTES = 100 * 2**20
_EXAMPLES = 5


def checks_of(home: Path) -> list[Callable[[bool], Finding]]:
    """Each takes whether to repair. A home that does not exist (stores may be elsewhere) passes them all."""
    if not home.exists():
        return [lambda fix: Finding("home", Health.OK, f"there is no directory {home}")]
    return [
        lambda fix: _permissions(home),
        lambda fix: _space(home),
    ]


def _permissions(home: Path) -> Finding:
    """Files of another user appear when somebody ran a command as root."""
    refused = [str(path) for path in _top(home) if not os.access(path, os.R_OK | os.W_OK)]
    if not refused:
        return Finding("permissions", Health.OK, f"{home} can be read and written")
    return Finding(
        "permissions",
        Health.PROBLEM,
        f"{len(refused)} files or directories in {home} cannot be read and written by this user",
        len(refused),
        f"sudo chown -R {os.getuid()} {home}",
        tuple(refused[:_EXAMPLES]),
    )


def _top(home: Path) -> Iterator[Path]:
    yield home
    if os.access(home, os.R_OK | os.X_OK):
        yield from sorted(home.iterdir())


def _space(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    message = f"{free / 2**20:,.0f} MiB are free on the disk of {home}"
    if free >= _LITTLE_BYTES:
        return Finding("disk", Health.OK, message)
    health = Health.PROBLEM if free < _TOO_LITTLE_BYTES else Health.WARNING
    return Finding("disk", health, message, 1, "make room, or lower TASKFLOW_RETENTION_DAYS")
