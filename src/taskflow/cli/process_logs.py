"""Logs of a process that serves: to stderr, and into the home where `taskflow logs` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflow.settings import Settings


def configure(settings: Settings, service: str) -> None:
    from taskflow import logs
    from taskflow.observability.log_files import LogFiles

    directory = settings.log_directory
    kept = (
        None
        if directory is None
        else LogFiles(directory, service, keep_bytes=settings.log_keep_bytes)
    )
    logs.configure(
        settings.log_level,
        settings.log_format,
        service=service,
        also=None if kept is None else kept.write,
    )
