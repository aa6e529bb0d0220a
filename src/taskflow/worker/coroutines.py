"""Where coroutine handlers run: one event loop on a thread of its own, replaced when something blocks it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from taskflow.core import trace
from taskflow.logs import bind_contextvars, get_logger
from taskflow.worker.calls import Abandoned, Result
from taskflow.worker.context import bound_fields
from taskflow.worker.run import Run

if TYPE_CHECKING:
    from taskflow.worker.slot import Slot

log = get_logger(__name__)

_CLOSE_SECONDS = 0.3


class CoroutineCall:
    """One call of a coroutine handler; the slot's thread waits for it."""

    cleans_up_on_cancel = True

    def __init__(self, coroutines: Coroutines, slot: Slot) -> None:
        self._coroutines = coroutines
        self._slot = slot
        self._loop: LoopThread | None = None
        self._run: Run | None = None
        self._start: Callable[[], Coroutine[Any, Any, Any]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._loop_answers = False  # since it was cancelled, the loop has had a turn
        self._dropped = False
        self._done = threading.Lock()
        self._done.acquire()

    def carry_out(self, run: Run, function: Callable[[], Coroutine[Any, Any, Any]]) -> Result:
        if self._slot.open(self, run):
            self._run = run
            self._start = function
            self._loop = self._coroutines.begin(self)
            self._done.acquire()
        self._slot.close()
        return self._value, self._error

    # --- on the loop's thread ---------------------------------------------------------------------

    def begin(
        self, loop: asyncio.AbstractEventLoop, ended: Callable[[CoroutineCall], None]
    ) -> None:
        if self._dropped:
            ended(self)
            return
        self._task = loop.create_task(self._drive())
        # Not a `finally` in the coroutine: one cancelled before its first step never gets there.
        self._task.add_done_callback(lambda task: self._end(task, ended))

    def cancel(self) -> None:
        self._loop_answers = True
        if self._task is None:
            self._drop()
        else:
            self._task.cancel()

    async def _drive(self) -> None:
        assert self._start is not None
        assert self._run is not None
        task = self._run.attempt.task
        bind_contextvars(**bound_fields(task))
        trace.CURRENT.set(task.traceparent)
        pid = os.getpid()
        try:
            self._value = await self._start()
        except BaseException as exc:  # noqa: BLE001 - SystemExit and the like would end the loop, not the attempt
            self._error = exc
        if os.getpid() != pid:
            os._exit(0)  # the child of a fork: the loop and all other attempts are its parent's

    def _end(self, task: asyncio.Task[None], ended: Callable[[CoroutineCall], None]) -> None:
        if task.cancelled():
            self._error = asyncio.CancelledError()
        self._set_done()
        ended(self)

    def _drop(self) -> None:
        """Wait no longer; if it has not begun it never will."""
        self._dropped = True
        self._set_done()

    def _set_done(self) -> None:
        try:
            self._done.release()
        except RuntimeError:
            pass  # dropped and ended: the second of the two has nobody to tell

    # --- under the slot's lock --------------------------------------------------------------------

    def tell(self) -> None:
        """Its context looks at the run itself."""

    def can_be_interrupted(self) -> bool:
        return True

    def interrupt(self) -> None:
        if self._loop is None:
            self._drop()
        else:
            self._loop.cancel(self)

    def abandon(self) -> Abandoned:
        if (
            not self._loop_answers
            and self._loop is not None
            and self._coroutines.replace(self._loop)
        ):
            log.warning("worker.loop_abandoned")
        has_begun = self._task is not None
        self._drop()
        return Abandoned.COROUTINE if has_begun else Abandoned.NEVER_BEGAN


class LoopThread:
    """One event loop and its thread."""

    def __init__(self, number: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._calls: set[CoroutineCall] = set()
        self._retired = False
        self._thread = threading.Thread(
            target=self._work, name=f"taskflow-coroutines-{number}", daemon=True
        )
        self._thread.start()

    def begin(self, call: CoroutineCall) -> None:
        self._calls.add(call)
        self._loop.call_soon_threadsafe(call.begin, self._loop, self._ended)

    def cancel(self, call: CoroutineCall) -> None:
        try:
            self._loop.call_soon_threadsafe(call.cancel)
        except RuntimeError:
            pass  # the loop has been closed, so the call has ended

    def retire(self) -> None:
        """Take no more calls; end when those there are have ended, if ever."""
        self._retired = True
        self._loop.call_soon_threadsafe(self._end_if_unused)

    def stop(self) -> None:
        """Cancel what is left and end. A loop that is blocked stays behind, as a daemon thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._retired = True
        self._thread.join(2 * _CLOSE_SECONDS)

    def _ended(self, call: CoroutineCall) -> None:
        self._calls.discard(call)
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._retired and not self._calls:
            self._loop.stop()

    def _work(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        while not self._retired:
            try:
                loop.run_forever()
                break
            except BaseException:  # SystemExit from a task that a handler had started itself
                log.exception("worker.loop_interrupted")
        try:
            if left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left, timeout=_CLOSE_SECONDS))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


class Coroutines:
    """The loop that takes new calls, made when the first one comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: LoopThread | None = None
        self._count = 0

    def begin(self, call: CoroutineCall) -> LoopThread:
        """Start it, and return the loop it runs on."""
        with self._lock:
            if self._loop is None:
                self._count += 1
                self._loop = LoopThread(self._count)
            loop = self._loop
        loop.begin(call)
        return loop

    def replace(self, blocked: LoopThread) -> bool:
        """Give up a loop that does not answer. False when that has been done before."""
        with self._lock:
            if self._loop is not blocked:
                return False
            self._loop = None
        blocked.retire()
        return True

    def stop(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop()
