"""Tasks to try TaskFlow with. `make run` serves them at http://127.0.0.1:8000.

A task is a plain function with `@task` above it. Whatever it takes and returns travels as JSON; its annotations are
checked when it is submitted.
"""

from __future__ import annotations

import asyncio
import time
from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from taskflow import Reject, Retry, RetryPolicy, TaskContext, task


@task()
def send_email(to: str, subject: str, body: str = "") -> str:
    """The plainest of tasks: arguments in, result out. Nothing is really sent; the built-in `email` does that."""
    return f"sent {subject!r} to {to} ({len(body)} characters)"


@task
def add(a: float, b: float) -> float:
    return a + b


@task(priority="low", timeout=600)
def build_report(
    ctx: TaskContext, pages: int = 20, seconds_per_page: float = 0.1
) -> dict[str, int]:
    """Takes a while, says how far it is, and ends in good order when it is cancelled."""
    for page in range(1, pages + 1):
        if ctx.cancelled:
            break
        time.sleep(seconds_per_page)
        ctx.progress(100 * page / pages, f"page {page} of {pages}")
    return {"pages": page if pages else 0}


@task(max_retries=5, retry_policy=RetryPolicy(base_seconds=0.1, cap_seconds=2.0))
def flaky(ctx: TaskContext, failures: int = 2) -> str:
    """Fails the first ``failures`` times, as networks do. Errors of connection are retried without being asked to."""
    if ctx.attempt <= failures:
        raise ConnectionError(f"attempt {ctx.attempt} did not get through")
    return f"got through at attempt {ctx.attempt}"


class Order(BaseModel):
    """Arguments may be models: they are validated at submission and arrive as models."""

    number: int = Field(gt=0)
    total: float = Field(gt=0)
    due: date | None = None


@task(priority="critical", never_retry_for=PermissionError)
def charge(order: Order, card: Literal["good", "stolen", "busy"] = "good") -> dict[str, float]:
    """What a handler can say: it worked, never try again, or try again at a time of its choice."""
    if card == "stolen":
        raise Reject(f"order {order.number}: the bank refused the card")
    if card == "busy":
        raise Retry("the bank is busy", delay=30)
    return {"order": order.number, "charged": order.total}


@task(executor="process", timeout=60)
def count_words(text: str) -> dict[str, int]:
    """Runs in a process of its own: it may use a whole processor, and a timeout kills it for certain."""
    words: dict[str, int] = {}
    for word in text.lower().split():
        words[word] = words.get(word, 0) + 1
    return words


@task
async def gather_prices(shops: list[str]) -> dict[str, int]:
    """Coroutines share one event loop: thousands may wait at once."""

    async def ask(shop: str) -> tuple[str, int]:
        await asyncio.sleep(0.01)
        return shop, len(shop)

    return dict(await asyncio.gather(*(ask(shop) for shop in shops)))
