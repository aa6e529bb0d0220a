"""A task that writes down, in a database that nobody restarts, when it was inside: one row per attempt.

The row of an attempt whose process was killed has no end; the test knows when that process died.
"""

from __future__ import annotations

import os
import threading

import psycopg2

from taskflow import TaskContext, task

WITNESS = "TASKFLOW_TEST_WITNESS_URL"
TABLE = """
    CREATE TABLE inside (
        task_id uuid NOT NULL, attempt int NOT NULL, pid int NOT NULL,
        entered double precision NOT NULL DEFAULT extract(epoch FROM clock_timestamp()),
        left_at double precision, PRIMARY KEY (task_id, attempt)
    )"""
_ENTER = "INSERT INTO inside (task_id, attempt, pid) VALUES (%s, %s, %s)"
_LEAVE = (
    "UPDATE inside SET left_at = extract(epoch FROM clock_timestamp()) "
    "WHERE task_id = %s AND attempt = %s"
)
_here = threading.local()


def _execute(statement: str, parameters: tuple[object, ...]) -> None:
    if not hasattr(_here, "connection"):
        _here.connection = psycopg2.connect(os.environ[WITNESS])
        _here.connection.autocommit = True
    with _here.connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def _watched(ctx: TaskContext, seconds: float) -> None:
    _execute(_ENTER, (ctx.task_id, ctx.attempt, os.getpid()))
    try:
        if seconds:
            threading.Event().wait(seconds)
    finally:
        _execute(_LEAVE, (ctx.task_id, ctx.attempt))


@task("distributed.add", max_retries=50)
def add(ctx: TaskContext, a: int, b: int, seconds: float = 0.0) -> int:
    _watched(ctx, seconds)
    return a + b


@task("distributed.flaky", max_retries=50)
def flaky(ctx: TaskContext) -> int:
    """Fails once, so that retries go through the queue, too."""
    _watched(ctx, 0.0)
    if ctx.attempt == 1:
        raise ConnectionError("the first attempt always fails")
    return ctx.attempt
