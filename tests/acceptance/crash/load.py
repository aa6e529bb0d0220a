"""What is submitted while processes are being killed, and how each kind of task must end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

EFFECTS = "TASKFLOW_TEST_EFFECTS"  # environment: the file to which handlers append
INLINE_PAYLOAD_BYTES = 512
_PRIORITIES = ("critical", "high", "normal", "low")


@dataclass(frozen=True)
class Wanted:
    """One submission. ``kind``: a key of `ENDS`. ``again``: submit it twice, by its idempotency key."""

    kind: str
    task: str
    arguments: dict[str, Any]
    key: str | None = None
    again: bool = False
    delay: float = 0.0
    depends_on: str | None = None
    priority: str = "normal"


# How the tasks of each kind end. What depends on a failed task fails with it.
ENDS = {
    "add": "completed",
    "large": "completed",
    "slow": "completed",
    "coroutine": "completed",
    "flaky": "completed",
    "later": "completed",
    "bad": "failed",
}
RESULTS = {
    "add": b"5",
    "slow": b'"slow"',
    "coroutine": b'"coroutine"',
    "later": b"3",
}


def wanted(rng: random.Random, *, key: str, previous: str | None) -> Wanted:
    """The next submission; one in ten depends on the ``previous`` one, one in ten is submitted twice."""
    kind = rng.choices(list(ENDS), weights=[10, 2, 1, 3, 2, 2, 1])[0]
    again = rng.random() < 0.1
    common: dict[str, Any] = {
        "key": key if again else None,
        "again": again,
        "depends_on": previous if previous is not None and rng.random() < 0.1 else None,
        "priority": rng.choice(_PRIORITIES),
    }
    match kind:
        case "add":
            return Wanted(kind, "crash.add", {"a": 2, "b": 3}, **common)
        case "large":
            text = "x" * rng.randint(1, 4 * INLINE_PAYLOAD_BYTES)
            return Wanted(kind, "crash.large", {"text": text}, **common)
        case "slow":
            return Wanted(kind, "crash.slow", {"seconds": rng.uniform(0.001, 0.02)}, **common)
        case "later":
            delay = rng.uniform(0.001, 0.2)
            return Wanted(kind, "crash.add", {"a": 1, "b": 2}, delay=delay, **common)
        case _:
            return Wanted(kind, f"crash.{kind}", {}, **common)
