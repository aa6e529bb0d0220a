"""The other side of the comparison: the same task file through an embedded TaskFlow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.comparison import Comparison, Ended
from benchmarks.task_file import FileTask
from taskflow import TaskFlow
from taskflow.core.submission import Submission, SubmitOptions
from taskflow.settings import Settings, load

_LOOK_SECONDS = 0.002
_PAGE = 500


def engine_settings(directory: Path, *, workers: int, retry_base_seconds: float) -> Settings:
    """Settings as they come, except the home, the workers and the backoff."""
    return load(
        home=directory,
        database_url="",
        tasks=(),
        max_queue_size=0,
        num_workers=workers,
        retry_base_seconds=retry_base_seconds,
    )


def run_engine(app: TaskFlow, tasks: Sequence[FileTask]) -> Comparison:
    """All tasks through the running ``app``, from the first submission until the last result is on disk."""
    submissions = [
        Submission(
            t.task,
            t.args,
            t.kwargs,
            SubmitOptions.of(priority=t.priority, max_retries=t.max_retries),
        )
        for t in tasks
    ]
    cpu, began = time.process_time(), time.perf_counter()
    handles = app.submit_many(submissions)
    while _ended(app) < len(tasks):
        time.sleep(_LOOK_SECONDS)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    service, tenant, ended = app.runtime.tasks, app.tenant_id, []
    first = service.get(tenant, handles[0].id).created_at
    for start in range(0, len(handles), _PAGE):
        for task in service.get_many(
            tenant, [handle.id for handle in handles[start : start + _PAGE]]
        ):
            assert task.finished_at is not None, f"{task.task_id} is {task.status}"
            after_ms = (task.finished_at - first).total_seconds() * 1_000
            ended.append(Ended(task.priority.name.lower(), task.status.value, after_ms))
    totals = app.runtime.counters.snapshot()["totals"]
    return Comparison(
        f"TaskFlow, {app.settings.num_workers} workers", seconds, cpu, totals["retried"], ended
    )


def _ended(app: TaskFlow) -> int:
    totals = app.runtime.counters.snapshot()["totals"]
    return int(totals["succeeded"] + totals["failed"])
