"""How many go into one transaction, told by which of them a store gives up."""

from __future__ import annotations

import pytest

from taskflow.core.errors import StatementTimeoutError, StoreUnavailableError
from taskflow.services.batch_size import BatchSize


class Store:
    """Takes ``most`` at once. Remembers how many it was given each time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tried: list[int] = []

    def take(self, count: int) -> int:
        self.tried.append(count)
        if count > self.most:
            raise StatementTimeoutError("too much")
        return count

    def take_all(self, items: list[int]) -> list[int]:
        self.take(len(items))
        return items


def test_half_as_many_are_tried_until_the_store_takes_them() -> None:
    store, size = Store(100), BatchSize(500)
    assert size.fit(store.take) == 62
    assert store.tried == [500, 250, 125, 62]


def test_what_was_too_much_is_not_tried_with_the_next_ones() -> None:
    store, size = Store(100), BatchSize(500)
    size.fit(store.take)
    store.tried.clear()
    assert [size.fit(store.take) for _ in range(3)] == store.tried == [72, 82, 92]


def test_a_store_that_was_slow_for_a_while_is_given_as_many_as_before_in_the_end() -> None:
    store, size = Store(1), BatchSize(500)
    size.fit(store.take)
    store.most = 1_000
    assert [size.fit(store.take) for _ in range(60)][-1] == 500


def test_a_few_items_say_nothing_about_many() -> None:
    store, size = Store(8), BatchSize(500)
    list(size.parts(list(range(30)), store.take_all))
    store.tried.clear()
    for item in range(100):
        list(size.parts([item], store.take_all))
    list(size.parts(list(range(30)), store.take_all))
    assert max(store.tried) < 30


def test_items_come_with_what_was_made_of_them_in_order() -> None:
    store, size = Store(8), BatchSize(500)
    items = list(range(30))
    parts = list(size.parts(items, store.take_all))
    assert all(part == result for part, result in parts)
    assert [item for part, _ in parts for item in part] == items
    assert store.tried[:3] == [30, 15, 7], "no more are tried than there are"


def test_one_that_is_too_much_alone_is_an_error() -> None:
    store, size = Store(0), BatchSize(500)
    with pytest.raises(StatementTimeoutError):
        size.fit(store.take)
    with pytest.raises(StatementTimeoutError):
        list(size.parts([1, 2], store.take_all))


def test_what_has_nothing_to_do_with_how_many_they_are_is_tried_once() -> None:
    def fail(count: int) -> int:
        tried.append(count)
        raise StoreUnavailableError("away")

    tried: list[int] = []
    with pytest.raises(StoreUnavailableError):
        BatchSize(500).fit(fail)
    assert tried == [500]
