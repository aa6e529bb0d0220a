"""How much one transaction is given, by what the store's statement timeout lets through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from taskflow import logs
from taskflow.core.errors import StatementTimeoutError

log = logs.get_logger(__name__)

_STEPS = 50  # from one to the most

T = TypeVar("T")
R = TypeVar("R")


class BatchSize:
    """Half as many after the store gave up what took too long, a few more after each full batch that it took: additive
    increase, multiplicative decrease, as TCP's. A failed attempt costs the whole timeout, so what it taught is kept.
    For one thread at a time."""

    def __init__(self, most: int) -> None:
        self._most = self._now = most

    def fit(self, write: Callable[[int], R]) -> R:
        """What ``write`` returned for as many as the store takes.

        Raises StatementTimeoutError when even one is too much.
        """
        return self._fit(write, self._most)

    def parts(
        self, items: Sequence[T], write: Callable[[Sequence[T]], R]
    ) -> Iterator[tuple[Sequence[T], R]]:
        """One part after another, with what ``write`` returned for it. Raises as `fit` does, after those before."""

        def first(count: int) -> tuple[Sequence[T], R]:
            return items[:count], write(items[:count])

        while items:
            part, result = self._fit(first, len(items))
            yield part, result
            items = items[len(part) :]

    def _fit(self, write: Callable[[int], R], available: int) -> R:
        while True:
            size = min(self._now, available)
            try:
                result = write(size)
            except StatementTimeoutError:
                if size == 1:
                    raise
                self._now = size // 2
                log.warning("store.batch_too_large", items=size, next_items=self._now)
            else:
                if size == self._now:  # fewer say nothing about more
                    self._now = min(self._most, self._now + max(1, self._most // _STEPS))
                return result
