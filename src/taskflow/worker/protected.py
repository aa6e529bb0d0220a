"""Keeps the process protected from being scaled in while attempts are here, and not any longer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from taskflow.logs import get_logger
from taskflow.ports.protection import Protection, ProtectionUnavailableError

log = get_logger(__name__)

_MINUTES = 30  # what a process that hangs, or is killed, leaves behind ends by itself
_RENEW_SECONDS = _MINUTES * 60 / 2
_LOOK_SECONDS = 5.0  # how long it stays protected without work: tasks often follow each other
_LAST_SECONDS = 6.0


class Protected:
    """A thread that sleeps while nothing runs. Whatever the protection says, tasks run: failures are logged, the first
    of a row only, and tried again."""

    def __init__(
        self,
        protection: Protection,
        is_busy: Callable[[], bool],
        *,
        renew_seconds: float = _RENEW_SECONDS,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._protection = protection
        self._is_busy = is_busy
        self._renew_seconds = renew_seconds
        self._look_seconds = look_seconds
        self._claimed = threading.Event()
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._work, name="taskflow-protection", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def attempts_claimed(self) -> None:
        self._claimed.set()

    def stop(self) -> None:
        """Switches it off."""
        self._stopping.set()
        self._claimed.set()
        self._thread.join(_LAST_SECONDS)

    def _work(self) -> None:
        while self._claimed.wait() and not self._stopping.is_set():
            self._claimed.clear()
            self._while_busy()
            self._switch(on=False)

    def _while_busy(self) -> None:
        while not self._stopping.is_set():
            is_on = self._switch(on=True)
            left = self._renew_seconds if is_on else self._look_seconds
            while left > 0 and not self._stopping.wait(min(left, self._look_seconds)):
                self._claimed.clear()  # what is claimed from here on is seen by the next look, or by `_work`
                if not self._is_busy():
                    return
                left -= self._look_seconds

    def _switch(self, *, on: bool) -> bool:
        try:
            self._protection.switch(on=on, minutes=_MINUTES)
        except ProtectionUnavailableError as exc:
            say = log.debug if self._is_failing else log.warning
            say("worker.protection_failed", on=on, error=str(exc))
            self._is_failing = True
            return False
        if self._is_failing:
            log.info("worker.protection_recovered", on=on)
        else:
            log.debug("worker.protection", on=on)
        self._is_failing = False
        return True
