"""Its tasks."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import shop_rates

import taskflow
from taskflow import task

if os.environ.get("SHOP_DIES_AT_START"):
    os._exit(3)  # as a library does that is compiled for another machine

WEB = ("fastapi", "starlette", "uvicorn", "typer", "rich", "mangum")


@task
def shop_total(items: list[str], currency: str) -> int:
    """With a file of the package, and a module beside it."""
    prices = json.loads(Path(__file__).with_name("prices.json").read_text())
    return sum(prices[item] for item in items) * shop_rates.RATES[currency]


@task
def shop_surroundings() -> dict[str, object]:
    """Where the code came from that runs this."""
    return {
        "taskflow": str(Path(taskflow.__file__).parent),
        "tasks": str(Path(__file__).parent),
        "web": [name for name in WEB if name in sys.modules],
        "task_root": os.environ["LAMBDA_TASK_ROOT"],
    }


@task
def shop_letters(text: str) -> int:
    return len(text)


@task(max_retries=1)
def shop_unreachable() -> None:
    raise ConnectionError("the shop is closed")


@task
def shop_deadly() -> None:
    """Takes its whole process with it."""
    os.kill(os.getpid(), signal.SIGKILL)
