"""Group commit: concurrent callers share transactions.

While one batch commits, the next gathers; there is no timer and no thread of its own. Whoever finds nobody committing
commits everything that has gathered, including what came from others, so a lone caller pays for nothing but its own
commit, and a crowd pays for one commit per batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Request(Generic[T, R]):
    __slots__ = ("done", "error", "future", "items", "loop", "results")

    def __init__(
        self,
        items: Sequence[T],
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[list[R]] | None,
    ) -> None:
        self.items = items
        self.results: list[R] = []
        self.error: BaseException | None = None
        self.done = False
        self.loop = loop
        self.future = future

    def settle(self) -> None:
        """On the request's event loop. Its caller may have gone away meanwhile."""
        if self.future is not None and not self.future.done():
            if self.error is not None:
                self.future.set_exception(self.error)
            else:
                self.future.set_result(self.results)


class GroupCommit(Generic[T, R]):
    """``commit(items)`` returns one result per item and is never called by two threads at once. When it raises, every
    caller of that batch gets the error. Thread safe; `run_async` may be awaited on any number of event loops."""

    def __init__(
        self, commit: Callable[[Sequence[T]], list[R]], *, max_batch: int = 1_000, name: str
    ) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._gathered: list[_Request[T, R]] = []
        self._gathering = threading.Lock()
        self._committing = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._pumping = False

    def run(self, items: Sequence[T]) -> list[R]:
        """Blocks until these items are committed; returns their results."""
        request: _Request[T, R] = _Request(items, None, None)
        with self._gathering:
            self._gathered.append(request)
        with self._committing:
            while not request.done:
                self._commit_gathered()
        if request.error is not None:
            raise request.error
        return request.results

    async def run_async(self, items: Sequence[T]) -> list[R]:
        loop = asyncio.get_running_loop()
        request: _Request[T, R] = _Request(items, loop, loop.create_future())
        assert request.future is not None
        with self._gathering:
            self._gathered.append(request)
            start = not self._pumping
            self._pumping = True
        if start:
            self._executor.submit(self._pump)
        return await request.future

    def close(self) -> None:
        """Commits what has gathered, then ends the thread of asynchronous callers."""
        self._executor.shutdown(wait=True)

    def _pump(self) -> None:
        """Commits until nothing has gathered: the leader on behalf of event loops, which cannot be one."""
        while True:
            with self._committing:
                self._commit_gathered()
            with self._gathering:
                if not self._gathered:
                    self._pumping = False
                    return

    def _commit_gathered(self) -> None:
        with self._gathering:
            requests, size = [], 0
            for request in self._gathered:
                if requests and size + len(request.items) > self._max_batch:
                    break
                requests.append(request)
                size += len(request.items)
            del self._gathered[: len(requests)]
        if not requests:
            return
        try:
            results = self._commit([item for request in requests for item in request.items])
        except BaseException as exc:
            for request in requests:
                request.error = exc
        else:
            start = 0
            for request in requests:
                request.results = results[start : start + len(request.items)]
                start += len(request.items)
        waiting: dict[asyncio.AbstractEventLoop, list[_Request[T, R]]] = {}
        for request in requests:
            request.done = True
            if request.loop is not None:
                waiting.setdefault(request.loop, []).append(request)
        for loop, settled in waiting.items():
            try:
                loop.call_soon_threadsafe(_settle, settled)
            except RuntimeError:  # the loop has been closed; nobody waits any more
                continue


def _settle(requests: Sequence[_Request[T, R]]) -> None:
    for request in requests:
        request.settle()
