"""`simulate`: takes time and fails as often as it is told to, for tests and benchmarks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from taskflow.core.context import TaskContext
from taskflow.handlers.waiting import Wait

MAX_LATENCY_MS = 3_600_000.0
Latency = Annotated[float, Field(ge=0, le=MAX_LATENCY_MS)]
Probability = Annotated[float, Field(ge=0, le=1)]


def simulate_handler(wait: Wait) -> Callable[..., dict[str, float]]:
    """The handler; ``wait`` sleeps."""

    def simulate(
        ctx: TaskContext,
        latency_ms: Latency = 0.0,
        jitter_ms: Latency = 0.0,
        transient_probability: Probability = 0.0,
        permanent_probability: Probability = 0.0,
        seed: int | None = None,
    ) -> dict[str, float]:
        """Wait ``latency_ms`` ± up to ``jitter_ms`` (uniform), then fail with the given probabilities.

        A transient fault is a ConnectionError, a permanent one a ValueError; their probabilities add up to 1 at most.
        With a ``seed`` every attempt of a task has its own, repeatable fate. Returns ``{"latency_ms": …}``.
        """
        if transient_probability + permanent_probability > 1:
            raise ValueError(
                "transient_probability and permanent_probability add up to more than 1"
            )
        rng = random.Random(None if seed is None else f"{seed}/{ctx.attempt}")
        latency = max(0.0, latency_ms + rng.uniform(-jitter_ms, jitter_ms))
        if latency:
            wait(latency / 1_000)
        fate = rng.random()
        if fate < transient_probability:
            raise ConnectionError("simulated transient fault")
        if fate < transient_probability + permanent_probability:
            raise ValueError("simulated permanent fault")
        return {"latency_ms": latency}

    return simulate
