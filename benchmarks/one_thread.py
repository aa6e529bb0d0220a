"""The baseline: a plain loop that runs a task file in order, as a small script with a durable queue of its own would.

Every task is committed to SQLite (`synchronous=FULL`) when it is accepted and once more with its result. It validates
like the engine and retries at once, without any backoff: the loop has nothing else to do meanwhile.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, Ended
from benchmarks.task_file import FileTask
from taskflow.core.registry import Handler, Registry
from taskflow.logs import get_logger


@dataclass
class _Context:
    """A `TaskContext` that nobody listens to."""

    task: str
    attempt: int
    task_id: str = ""
    tenant_id: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    log: Any = field(default_factory=lambda: get_logger(__name__))
    cancelled: bool = False
    seconds_left: float = 3_600.0

    def progress(self, percent: float, message: str | None = None) -> None:
        """Goes nowhere."""


def run_one_thread(directory: Path, tasks: Sequence[FileTask], registry: Registry) -> Comparison:
    """All tasks, from the first submission until the last result is on disk."""
    ended = []
    retries = 0
    with closing(sqlite3.connect(directory / "baseline.db", isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=FULL")
        store.execute(
            "CREATE TABLE tasks (id INTEGER PRIMARY KEY, task TEXT, arguments TEXT, status TEXT, result TEXT)"
        )
        cpu, began = time.process_time(), time.perf_counter()
        for n, task in enumerate(tasks):
            arguments = registry.get(task.task).arguments_json(task.args, task.kwargs)
            store.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, 'pending', NULL)", (n, task.task, arguments)
            )
        for n, task in enumerate(tasks):
            [arguments] = store.execute("SELECT arguments FROM tasks WHERE id = ?", (n,)).fetchone()
            status, result, retried = _run(registry.get(task.task), task, arguments)
            store.execute(
                "UPDATE tasks SET status = ?, result = ? WHERE id = ?", (status, result, n)
            )
            ended.append(Ended(task.priority, status, (time.perf_counter() - began) * 1_000))
            retries += retried
        seconds = time.perf_counter() - began
    return Comparison("one thread", seconds, time.process_time() - cpu, retries, ended)


def _run(handler: Handler[..., Any], task: FileTask, arguments: str) -> tuple[str, str, int]:
    for attempt in range(1, task.max_retries + 2):
        args, kwargs = handler.signature.call_arguments(*json.loads(arguments))
        if (name := handler.signature.context_parameter) is not None:
            kwargs[name] = _Context(task.task, attempt)
        try:
            return "completed", json.dumps(handler.function(*args, **kwargs)), attempt - 1
        except (ConnectionError, TimeoutError) as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - handlers may raise anything
            return "failed", json.dumps(str(exc)), attempt - 1
    return "failed", json.dumps(str(error)), task.max_retries
