"""Workers, in processes of their own or in Lambda."""

from __future__ import annotations

import math
import os
import socket
from typing import Literal

from pydantic import Field

from taskflow.core.errors import ConfigurationError, InvalidRequestError
from taskflow.core.task import TaskPriority
from taskflow.settings.names import Names


class Workers:
    """What they run and serve, and how long they wait."""

    # Workers
    num_workers: int = Field(
        4, ge=0, le=1_000, description="Attempts that may run at once; 0: no worker here"
    )
    worker_health_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port on which `taskflow worker` answers GET /health; 0: none",
    )
    worker_queues: Literal["ordinary", "long", "all"] = Field(
        "all",
        description="Which SQS queues workers here serve: ordinary, long (those of long tasks) or all",
    )
    worker_priorities: Names = Field(
        (), description="Serve only these priorities, comma-separated; empty: all"
    )
    worker_tasks: Names = Field(
        (), description="Serve only these tasks, comma-separated; empty: all"
    )
    worker_resources: Names = Field(
        (), description="What tasks may ask for, e.g. gpu=1,memory_mb=2048"
    )
    lease_seconds: float = Field(
        30.0, ge=1, description="A silent worker's tasks are taken over after this"
    )
    cancel_grace_seconds: float = Field(
        5.0, ge=0, description="From the cancellation of a running task to its interruption"
    )
    abandon_grace_seconds: float = Field(
        1.0, ge=0, description="From the interruption of a thread to giving it up"
    )
    shutdown_grace_seconds: float = Field(
        30.0, ge=0, description="How long a stopping worker lets attempts finish"
    )
    process_memory_bytes: int = Field(
        2**30, ge=0, description="Memory of a child process (executor=process); 0: no limit"
    )
    breaker_failures: int = Field(
        5, ge=1, description="Failures in a row that open a circuit breaker"
    )
    breaker_open_seconds: float = Field(
        30.0, gt=0, description="How long an open circuit waits before it lets one through"
    )
    starvation_every: int = Field(
        32,
        ge=2,
        description="One in this many deliveries goes to a lower priority that waits while higher ones do",
    )

    # Lambda
    lambda_margin_seconds: float = Field(
        5.0,
        ge=1,
        description="Before a function's end, kept free for giving back what still runs",
    )
    lambda_base_path: str = Field(
        "", description="Stage that API Gateway puts before every path, e.g. /prod; empty: none"
    )

    @property
    def priorities(self) -> frozenset[int] | None:
        """Which priorities workers here serve; None: all."""
        try:
            named = [int(TaskPriority.parse(name)) for name in self.worker_priorities]
        except InvalidRequestError as exc:
            raise ConfigurationError(f"TASKFLOW_WORKER_PRIORITIES: {exc.detail}") from exc
        return frozenset(named) or None

    @property
    def resources(self) -> dict[str, float]:
        """What workers here have, by name."""
        amounts: dict[str, float] = {}
        for part in self.worker_resources:
            name, equals, amount = part.partition("=")
            try:
                amounts[name.strip()] = float(amount)
            except ValueError:
                equals = ""
            if not equals or not 0 <= amounts[name.strip()] < math.inf:
                raise ConfigurationError(f"TASKFLOW_WORKER_RESOURCES: {part!r} is not name=number")
        return amounts

    def new_worker_id(self, unique: str) -> str:
        """``host-pid-unique``: names a worker process in rows, logs and metrics."""
        return f"{socket.gethostname()[:64]}-{os.getpid()}-{unique}"
