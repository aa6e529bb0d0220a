"""SIGTERM and SIGINT for `taskflow worker` and `taskflow dev`: the first stops gracefully, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from taskflow.logs import get_logger

log = get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While it is entered, the first signal calls ``stop``, every further one ``release``, each on a thread of its own:
    a signal handler interrupts the main thread anywhere and must not wait for locks that it may hold.

    Enter it on the main thread; it puts the former handlers back.
    """

    def __init__(self, stop: Callable[[], None], release: Callable[[], None]) -> None:
        self._stop = stop
        self._release = release
        self._count = 0
        self._stopped = threading.Event()
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._former[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def wait(self) -> None:
        """Until a signal has come and what it asked for is done."""
        self._stopped.wait()

    def _received(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        action = self._stop if self._count == 1 else self._release
        threading.Thread(
            target=self._act,
            args=(action, signal.Signals(number).name),
            name="taskflow-stop",
            daemon=True,
        ).start()

    def _act(self, action: Callable[[], None], name: str) -> None:
        log.info("process.stopping", signal=name, at_once=action is self._release)
        try:
            action()
        finally:
            self._stopped.set()
