"""Threads that must not end, and the one that looks after them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from taskflow.logs import get_logger

log = get_logger(__name__)


class Loop:
    """A daemon thread that runs ``work`` until it returns, then ``on_return``. One that died otherwise can be started
    again."""

    def __init__(
        self, name: str, work: Callable[[], None], on_return: Callable[[], None] = lambda: None
    ) -> None:
        self.name = name
        self._work = work
        self._on_return = on_return
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_returned = False

    def ensure(self) -> None:
        """Start it, or start it again and say so if it has died."""
        if (thread := self._thread) is not None and (thread.is_alive() or self._has_returned):
            return
        with self._lock:
            if self._thread is not None:
                if self._thread.is_alive() or self._has_returned:
                    return
                log.error("queue.thread_restarted", thread=self.name)
            thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            thread.start()
            self._thread = thread  # only now: who sees it may join it

    @property
    def has_ended(self) -> bool:
        """By itself; or it was never started."""
        return self._thread is None or self._has_returned

    def join(self, timeout_seconds: float) -> bool:
        """Whether it has ended, or was never started."""
        if self._thread is None:
            return True
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:  # whatever it was, the watchdog starts another thread
            log.exception("queue.thread_died", thread=self.name)
        else:
            self._has_returned = True
            self._on_return()


class Keeper:
    """Looks round every ``every_seconds``: ``look`` (visibility that runs out, messages that nobody wants), and whether
    all ``loops`` are alive. It makes no call to SQS itself, so that none can hold it up."""

    def __init__(
        self, look: Callable[[], None], loops: Sequence[Loop], *, every_seconds: float
    ) -> None:
        self._look = look
        self._loops = loops
        self._every_seconds = every_seconds
        self._closing = threading.Event()
        self._loop = Loop("taskflow-sqs-keeper", self._work)

    def ensure(self) -> None:
        """Called whenever somebody uses the queue: who else should look after the keeper?"""
        self._loop.ensure()

    def close(self) -> None:
        self._closing.set()
        self._loop.join(1.0)

    def _work(self) -> None:
        for loop in self._loops:
            loop.ensure()
        while not self._closing.wait(self._every_seconds):
            for loop in self._loops:
                loop.ensure()
            self._look()
