"""What all ways of calling a handler have in common: how the call is ended from outside."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Protocol


class Abandoned(Enum):
    """What is left of a call that did not end when it was interrupted."""

    NOTHING = auto()
    THREAD = auto()  # the slot's own thread is stuck in it
    COROUTINE = auto()  # it goes on, nobody waits for it
    NEVER_BEGAN = auto()  # it waited for an event loop that something else blocks


Result = tuple[Any, BaseException | None]
"""What a handler returned, and what it raised. A plain tuple: one is made for every attempt."""


class Call(Protocol):
    """A handler's call under way. Every method is called under the slot's lock and returns at once."""

    cleans_up_on_cancel: bool
    """It is interrupted as soon as the task is cancelled, and has the grace for cleaning up instead of for noticing."""

    def tell(self) -> None:
        """The attempt is to end; a handler that asks its context should see so."""
        ...

    def can_be_interrupted(self) -> bool:
        """False when it would do harm at this moment: ask again shortly."""
        ...

    def interrupt(self) -> None: ...

    def abandon(self) -> Abandoned:
        """Make whoever waits for the call go on, if that is possible."""
        ...
