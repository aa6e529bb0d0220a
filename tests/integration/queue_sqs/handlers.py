"""Handlers of the apps that these tests start."""

from __future__ import annotations

from pathlib import Path


def double(number: int) -> int:
    return 2 * number


def flaky(file: str) -> str:
    """Fails until ``file`` exists, which the first attempt makes."""
    path = Path(file)
    if not path.exists():
        path.touch()
        raise ConnectionError("not yet")
    return "done"
