"""Calls sync handlers in the slot's own thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskflow.worker.calls import Abandoned, Result
from taskflow.worker.interrupts import Interrupted, interrupt, is_in_engine, withdraw
from taskflow.worker.run import Run, Stage

if TYPE_CHECKING:
    from taskflow.worker.slot import Slot


class ThreadCall:
    """One per slot, used for every attempt."""

    cleans_up_on_cancel = False

    def __init__(self, slot: Slot) -> None:
        """On the slot's thread."""
        self._slot = slot
        self._pid = os.getpid()
        self.thread_id = threading.get_ident()

    def carry_out(
        self, run: Run, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Result:
        """The only place where an interrupt can arrive: at any instruction from the assignment of ``slot.call`` until
        `_close` has withdrawn it. It arrives at most once, so the second `_close` is undisturbed."""
        value: Any = None
        error: BaseException | None = None
        try:
            try:
                self._slot.call = self
                if run.reason is None:
                    value = function(*args, **kwargs)
            except BaseException as exc:  # noqa: BLE001 - it ends this attempt and nothing else
                error = exc
            if os.getpid() != self._pid:
                os._exit(
                    0
                )  # the child of a fork in the handler: everything else here is its parent's
            self._close(run)
        except Interrupted as late:
            error = error or late
            self._close(run)
        return value, error

    def _close(self, run: Run) -> None:
        self._slot.close()
        if run.stage is Stage.INTERRUPTED:
            withdraw(self.thread_id)

    def tell(self) -> None:
        """Its context looks at the run itself."""

    def can_be_interrupted(self) -> bool:
        return not is_in_engine(self.thread_id)

    def interrupt(self) -> None:
        interrupt(self.thread_id)

    def abandon(self) -> Abandoned:
        return Abandoned.THREAD
