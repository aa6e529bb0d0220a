"""The context a handler is called with when a test calls it directly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog


@dataclass
class PlainContext:
    task_id: str = "0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"
    tenant_id: str = "default"
    task: str = "a_task"
    attempt: int = 1
    traceparent: str | None = None
    seconds_left: float = 300.0
    cancelled: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    log: Any = field(default_factory=structlog.get_logger)
    artifacts: Any = None
    reported: list[tuple[float, str | None]] = field(default_factory=list)

    def progress(self, percent: float, message: str | None = None) -> None:
        self.reported.append((percent, message))
