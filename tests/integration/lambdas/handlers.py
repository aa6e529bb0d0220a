"""Tasks for the functions under test."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from taskflow import Reject, TaskContext, task


@task
def lambda_echo(value: object = None) -> object:
    return value


@task(max_retries=0)
def lambda_raise(message: str) -> None:
    raise Reject(message)


@task(max_retries=3)
def lambda_retry() -> None:
    raise ConnectionError("away")


@task(max_retries=0, timeout=1)
def lambda_endless() -> None:
    while True:
        time.sleep(0.01)


@task(max_retries=0)
def lambda_exit() -> None:
    sys.exit(3)


@task
def lambda_print(megabytes: int) -> int:
    line = "x" * 1023
    for _ in range(megabytes * 1024):
        print(line)
    return megabytes


@task
async def lambda_async(ctx: TaskContext, value: int) -> int:
    ctx.progress(50, "half way")
    return value + ctx.attempt


@task(executor="process")
def lambda_process(value: int) -> list[int]:
    return [value, os.getpid()]


@task
def lambda_mark(directory: str, name: str) -> str:
    """One line per execution, then waits while the file ``hold`` is there."""
    with (Path(directory) / name).open("a") as file:
        file.write("ran\n")
    while (Path(directory) / "hold").exists():
        time.sleep(0.01)
    return name


@task(max_retries=0, timeout=1)
def lambda_stuck() -> None:
    """In C code, where no exception reaches it."""
    time.sleep(30)


@task(max_retries=0, breaker="lambda")
def lambda_behind_a_breaker(works: bool) -> bool:
    if not works:
        raise ConnectionError("away")
    return works
