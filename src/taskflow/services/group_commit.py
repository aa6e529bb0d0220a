"""Group commit: concurrent callers share transactions.

While one batch commits, the next gathers; there is no fixed delay and no thread of its own. Whoever finds nobody
committing commits everything that has gathered, including what came from others. So a lone caller pays for nothing but
its own commit, and a crowd pays for one commit per batch: whoever leads waits, no longer than the last commit took, for
those who were answered by it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from taskflow.core.errors import CommitUnknownError, StoreUnavailableError

_CLOSE_LOOK_SECONDS = 0.001
_IMPATIENT_BATCHES = 16

T = TypeVar("T")
R = TypeVar("R")


class _Request(Generic[T, R]):
    __slots__ = ("called", "done", "error", "future", "gone", "items", "loop", "results")

    def __init__(
        self,
        items: Sequence[T],
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[list[R]] | None,
    ) -> None:
        self.items = items
        self.results: list[R] = []
        self.error: Exception | None = None
        self.done = False
        self.loop = loop
        self.future = future
        self.gone = False  # its caller was interrupted: it cannot be called to commit
        # Released when its caller is to go on: it is done, or it is its turn to commit.
        self.called = threading.Lock()
        self.called.acquire()

    def settle(self) -> None:
        """On the request's event loop. Its caller may have gone away meanwhile."""
        if self.future is not None and not self.future.done():
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.results)


class GroupCommit(Generic[T, R]):
    """``commit(items)`` returns one result per item and is never called by two threads at once. When it raises, every
    caller of that batch gets the error. Thread safe; `run_async` may be awaited on any number of event loops.
    ``patience_seconds``: longest wait for others, however long a commit takes.

    A caller that goes away (a cancelled coroutine, an interrupted thread) leaves its items: they are still committed.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], list[R]],
        *,
        max_batch: int = 1_000,
        name: str,
        patience_seconds: float = 0.005,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._commit = commit
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._max_batch = max_batch
        self._gathered: list[_Request[T, R]] = []
        self._gathering = threading.Lock()
        self._led = False  # somebody commits, or has been called to
        self._leader: _Request[T, R] | None = None  # the waiting caller that was called to commit
        # Callers that were answered together mostly come back together.
        self._expected = 1  # so many may be about to call
        self._awaited: threading.Lock | None = None  # released when they are here
        self._pump_called = threading.Lock()
        self._pump_called.acquire()
        self._impatient = 0  # so many batches do not wait: they did not come back
        self._commit_seconds = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._closed = False

    def run(self, items: Sequence[T]) -> list[R]:
        """Blocks until these items are committed; returns their results.

        Raises what the commit raised, StoreUnavailableError after `close`.
        """
        request: _Request[T, R] = _Request(items, None, None)
        leads = False
        try:
            with self._gathering:
                self._check_open()
                leads = not self._led
                self._led = True
                self._gather(request)
            if not leads:
                request.called.acquire()
            while not request.done:
                self._await_crowd(request.called)
                self._commit_gathered()
        except BaseException:
            with self._gathering:
                request.gone = True
            raise
        finally:
            # Whoever was called without being done leads, also when an interruption came first.
            if leads or self._leader is request:
                self._hand_over()
        if request.error is not None:
            raise request.error
        return request.results

    async def run_async(self, items: Sequence[T]) -> list[R]:
        """`run` for an event loop, which is free meanwhile."""
        loop = asyncio.get_running_loop()
        request: _Request[T, R] = _Request(items, loop, loop.create_future())
        assert request.future is not None
        with self._gathering:
            self._check_open()
            if not self._led:
                # Starts with waiting for this lock. It cannot fail later, when the request is among the others.
                self._executor.submit(self._pump)
                self._led = True
            self._gather(request)
        return await request.future

    def close(self) -> None:
        """Commits what has gathered; from now on nothing more is accepted."""
        with self._gathering:
            self._closed = True
        while self._led:
            time.sleep(_CLOSE_LOOK_SECONDS)
        self._executor.shutdown(wait=True)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("this TaskFlow is stopping; nothing was accepted")

    def _gather(self, request: _Request[T, R]) -> None:
        self._gathered.append(request)
        if self._awaited is not None and len(self._gathered) >= self._expected:
            self._awaited.release()
            self._awaited = None

    def _await_crowd(self, called: threading.Lock) -> None:
        """Wait for those who were answered last, no longer than a commit takes: one for all of them is cheaper than
        one for the first of them and another for the rest. A lone caller never waits. ``called`` is held."""
        with self._gathering:
            if self._impatient:
                self._impatient -= 1
                return
            if len(self._gathered) >= self._expected or self._closed:
                return
            self._awaited = called
        came = False
        try:
            came = called.acquire(timeout=min(self._commit_seconds, self._patience_seconds))
        finally:
            with self._gathering:
                if self._awaited is called:
                    self._awaited = None
                    self._impatient = _IMPATIENT_BATCHES
                elif not came:
                    called.acquire(blocking=False)  # they came at the last moment

    def _hand_over(self) -> None:
        """The next batch is committed by one of those who wait for it: this caller has its answer.

        Each waits on a lock of its own. On one lock for all they would wake one after the other, and the first of
        them would be back and commit its next item alone.
        """
        with self._gathering:
            self._leader = None
            if not self._gathered:
                self._led = False
                return
            request = next((r for r in self._gathered if r.loop is None and not r.gone), None)
            if request is None:
                self._executor.submit(self._pump)
                return
            self._leader = request
        request.called.release()

    def _pump(self) -> None:
        """Commits for event loops, which cannot lead."""
        try:
            while self._gathered:
                self._await_crowd(self._pump_called)
                self._commit_gathered()
        finally:
            self._hand_over()

    def _commit_gathered(self) -> None:
        requests = self._take()
        if not requests:
            return
        error: Exception | None = None
        began = self._clock()
        try:
            self._commit_all(requests)
        except Exception as exc:  # noqa: BLE001 - it belongs to those who wait
            error = exc
        except BaseException:
            # Meant for the thread that happens to commit for all. The others only learn that nobody knows.
            error = CommitUnknownError("the thread that was committing has been interrupted")
            raise
        finally:
            for request in requests:
                request.error = error
            self._commit_seconds = self._clock() - began
            with self._gathering:
                self._expected = len(requests) + len(self._gathered)
            _settle(requests)

    def _take(self) -> list[_Request[T, R]]:
        requests: list[_Request[T, R]] = []
        size = 0
        with self._gathering:
            for request in self._gathered:
                if requests and size + len(request.items) > self._max_batch:
                    break
                requests.append(request)
                size += len(request.items)
            del self._gathered[: len(requests)]
        return requests

    def _commit_all(self, requests: Sequence[_Request[T, R]]) -> None:
        results = self._commit([item for request in requests for item in request.items])
        start = 0
        for request in requests:
            request.results = results[start : start + len(request.items)]
            start += len(request.items)


def _settle(requests: Sequence[_Request[T, R]]) -> None:
    """Tell all who wait; those on one event loop with a single call."""
    waiting: dict[asyncio.AbstractEventLoop, list[_Request[T, R]]] = {}
    for request in requests:
        request.done = True
        if request.loop is not None:
            waiting.setdefault(request.loop, []).append(request)
        else:
            request.called.release()
    for loop, settled in waiting.items():
        try:
            loop.call_soon_threadsafe(_settle_here, settled)
        except RuntimeError:  # the loop has been closed; nobody waits any more
            continue


def _settle_here(requests: Sequence[_Request[T, R]]) -> None:
    for request in requests:
        request.settle()
