"""The numbers a worker needs, without the settings they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from taskflow.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Names and meanings as in `Settings`. ``priorities`` and ``tasks``: None serves all. ``queues``
    is only reported: the queue itself was built with it.

    ``ends_at`` (monotonic seconds): the process is stopped then, so an attempt whose timeout lies beyond it is given
    back instead of started. One with a timeout over ``longest_timeout_seconds`` can never run in such a process, and
    fails.
    """

    num_workers: int = 4
    lease_seconds: float = 30.0
    cancel_grace_seconds: float = 5.0
    abandon_grace_seconds: float = 1.0
    shutdown_grace_seconds: float = 30.0
    process_memory_bytes: int = 2**30
    max_payload_bytes: int = 2**20
    breaker_failures: int = 5
    breaker_open_seconds: float = 30.0
    queues: str = "all"
    priorities: frozenset[int] | None = None
    tasks: frozenset[str] | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    ends_at: float = math.inf
    longest_timeout_seconds: float = math.inf

    @classmethod
    def from_settings(cls, settings: Settings) -> WorkerOptions:
        return cls(
            num_workers=settings.num_workers,
            lease_seconds=settings.lease_seconds,
            cancel_grace_seconds=settings.cancel_grace_seconds,
            abandon_grace_seconds=settings.abandon_grace_seconds,
            shutdown_grace_seconds=settings.shutdown_grace_seconds,
            process_memory_bytes=settings.process_memory_bytes,
            max_payload_bytes=settings.max_payload_bytes,
            breaker_failures=settings.breaker_failures,
            breaker_open_seconds=settings.breaker_open_seconds,
            queues=settings.worker_queues,
            priorities=settings.priorities,
            tasks=frozenset(settings.worker_tasks) or None,
            resources=settings.resources,
        )
