"""One claimed attempt inside a worker: what is known of it beyond the store's record."""

from __future__ import annotations

import math
import threading
from enum import Enum, auto

from taskflow.services.execution import Attempt
from taskflow.worker.admission import Grant
from taskflow.worker.progress import Progress


class Stage(Enum):
    """How far the worker has gone to end the attempt."""

    UNDISTURBED = auto()
    TOLD = auto()  # `ctx.cancelled` is True, no more
    ENDING = auto()  # to be interrupted as soon as that is safe
    INTERRUPTED = auto()  # exception raised in the thread, coroutine cancelled, child killed
    ABANDONED = auto()


class GivenBackError(Exception):
    """Reason of attempts that a stopping worker ends: not their fault, the task is pending again."""


class PostponedError(GivenBackError):
    """Reason of attempts that could not begin because of ``cause``: a part of ours, e.g. the payload store, is away."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Run:
    """Owned by whoever took it out of `Pool.waiting`: the slot that carries it out, or whoever gives it back.

    ``due`` is when the watchdog must look at it (monotonic seconds). ``reason`` is why the worker itself ended the
    attempt; it wins over whatever the handler returns or raises. ``stage``, ``reason`` and ``due`` of a running attempt
    are changed under its slot's lock. Whoever acquires ``decided``, which is never released, says how it ended.
    """

    __slots__ = (
        "abandon_at",
        "attempt",
        "claimed_at",
        "decided",
        "due",
        "grant",
        "progress",
        "reason",
        "stage",
        "started_at",
        "written_progress",
    )

    def __init__(self, attempt: Attempt, claimed_at: float, grant: Grant | None) -> None:
        self.attempt = attempt
        self.claimed_at = claimed_at
        self.decided = threading.Lock()
        self.grant = grant
        self.started_at = math.inf
        self.due = math.inf
        self.abandon_at = math.inf
        self.stage = Stage.UNDISTURBED
        self.reason: Exception | None = None
        self.progress: Progress | None = None
        self.written_progress: Progress | None = None

    @property
    def has_unwritten_progress(self) -> bool:
        return self.progress is not self.written_progress
