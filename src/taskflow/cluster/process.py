"""What the cluster runs: a list of process specifications, in groups that start one after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: Python's ``module:function``, called with ``arguments`` in ``sys.argv``.

    ``is_ready`` is asked again and again until it says yes, from one thread; None makes it a step, which is done when
    it has ended with exit code 0. ``log_file``: where its output goes instead of onto the screen. ``orphan_signal``:
    what it gets when the cluster's own process has died; ``stop_signal``: when all of the cluster stops.
    ``repeats``: steps to take again after it was restarted.
    """

    name: str
    entry: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    is_ready: Callable[[], bool] | None = None
    log_file: Path | None = None
    stop_seconds: float = 5.0
    orphan_signal: signal.Signals = signal.SIGKILL
    stop_signal: signal.Signals = signal.SIGTERM
    repeats: tuple[str, ...] = ()


Group = Sequence[ProcessSpec]
"""Started together; the next group starts when all of it is ready. Groups stop in the opposite order."""
