"""Tells those who wait in this process that a task has ended. A hint like any message: the store has the facts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from taskflow import logs
from taskflow.ports.metadata import TaskKey

log = logs.get_logger(__name__)

# Gets the JSON text of what the handler returned, too, where that is at hand.
Callback = Callable[[TaskKey, str | None], None]
Results = Mapping[TaskKey, str]


class Completions:
    """Thread safe. Callbacks run on the thread that ended the task: they must be quick. What they raise is logged: one
    who waits on an event loop that has been closed must not keep the news from the others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[TaskKey, list[Callback]] = {}

    def subscribe(self, key: TaskKey, callback: Callback) -> Callable[[], None]:
        """``callback`` is called once when the task ends. Returns the function that unsubscribes."""
        with self._lock:
            self._callbacks.setdefault(key, []).append(callback)

        def unsubscribe() -> None:
            with self._lock:
                callbacks = self._callbacks.get(key)
                if callbacks is not None and callback in callbacks:
                    callbacks.remove(callback)
                    if not callbacks:
                        del self._callbacks[key]

        return unsubscribe

    def publish(self, keys: Iterable[TaskKey], results: Callable[[], Results] = dict) -> None:
        """``results`` is asked for what they returned if somebody waits for one of them."""
        if not self._callbacks:
            return
        with self._lock:
            called = [
                (key, callbacks) for key in keys if (callbacks := self._callbacks.pop(key, None))
            ]
        returned = results() if called else {}
        for key, callbacks in called:
            for callback in callbacks:
                try:
                    callback(key, returned.get(key))
                except Exception:
                    log.exception("completion.not_told", task_id=key.task_id)
