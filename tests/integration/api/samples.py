"""Handlers for the API's tests."""

from __future__ import annotations

from typing import Any

from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.task import TaskPriority


def sample_registry() -> Registry:
    registry = Registry()

    def echo(message: str = "") -> str:
        """Say it again."""
        return message

    def add(a: int, b: int = 1) -> int:
        return a + b

    def keep(value: Any = None) -> Any:
        return value

    def report(payload: dict[str, Any]) -> int:
        return len(payload)

    def fail(reason: str = "no reason") -> None:
        raise ValueError(reason)

    def crash(number: int = 1) -> float:
        return 1 / (number - number)

    for function in (echo, keep, report, fail, crash):
        registry.add(function, declared=TaskOptions())
    registry.add(
        add, declared=TaskOptions(priority=TaskPriority.HIGH, max_retries=7, timeout_seconds=12.5)
    )
    return registry
