"""TaskFlow inside your own program, from start to end: `python examples/usage_example.py`.

No server, no broker, nothing else installed. The tasks' state lies in a temporary directory here; give `TaskFlow` a
lasting ``home`` (default: `.taskflow`) and whatever is waiting when the program ends, or crashes, runs after the next
start.
"""

from __future__ import annotations

import asyncio
import tempfile

from taskflow import RetryPolicy, TaskContext, TaskFailedError, TaskFlow, task


@task(priority="high", timeout=30)
def greet(name: str) -> str:
    return f"Hello {name}"


@task(retry_policy=RetryPolicy(base_seconds=0.01))
def unreliable(ctx: TaskContext) -> str:
    if ctx.attempt < 3:
        raise ConnectionError("nobody there")
    return f"worked at attempt {ctx.attempt}"


@task
def resize(image: str, width: int) -> str:
    if width <= 0:
        raise ValueError("width must be above 0")
    return f"{image}@{width}"


@task
def publish(album: str) -> str:
    return f"{album} is online"


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as home,
        TaskFlow(home=home, database_url="", num_workers=4) as app,
    ):
        # A plain call stays a plain call; `submit` makes a task of it, which is on disk once it returns.
        print("direct:   ", greet("Ann"))
        print("task:     ", greet.submit("Ann").result(timeout=10))

        # Transient errors are retried with exponential backoff; the history keeps every attempt.
        retried = unreliable.submit()
        print("retried:  ", retried.result(timeout=10))
        print("history:  ", ", ".join(event.type for event in retried.history()))

        # A permanent error fails at once and becomes a dead letter, which can be looked at and redriven.
        try:
            resize.submit("cat.png", width=-1).result(timeout=10)
        except TaskFailedError as exc:
            print("failed:   ", exc.error["message"] if exc.error else exc)
        print("dead:     ", [letter.task for letter in app.dead_letters.list().items])

        # Many at once, then one that waits for all of them.
        images = app.submit_many((resize, (f"{n}.png",), {"width": 100}) for n in range(3))
        album = publish.options(depends_on=images).submit("Holiday")
        print("graph:    ", album.result(timeout=10))

        # The same key never runs twice, whoever asks and however often.
        first = greet.options(idempotency_key="welcome-bob").submit("Bob")
        again = greet.options(idempotency_key="welcome-bob").submit("Bob")
        print("same task:", first.id == again.id, again.replayed)

        # Handles can be awaited.
        print("awaited:  ", asyncio.run(greet.submit("Eve").result_async(timeout=10)))

        counts = app.metrics()["queue"]
        print("completed:", counts["completed_count"], "failed:", counts["failed_count"])


if __name__ == "__main__":
    main()
