"""Waiting inside a handler, in a way that a timeout or a cancellation can end."""

from __future__ import annotations

import time
from collections.abc import Callable

Wait = Callable[[float], None]
# An exception that the worker raises in a thread arrives between two steps of Python, not inside a sleep.
_STEP_SECONDS = 0.05


def wait(seconds: float) -> None:
    """Sleep for ``seconds``; an interruption of the thread takes effect within `_STEP_SECONDS`."""
    ends = time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        time.sleep(min(left, _STEP_SECONDS))
