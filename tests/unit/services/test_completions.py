from __future__ import annotations

import threading

from taskflow.ports.metadata import TaskKey
from taskflow.services.completions import Completions

A, B = TaskKey("default", "a"), TaskKey("default", "b")


def test_each_waiter_is_told_once_of_its_own_task() -> None:
    completions = Completions()
    told: list[tuple[str, TaskKey]] = []
    completions.subscribe(A, lambda key, _: told.append(("one", key)))
    completions.subscribe(A, lambda key, _: told.append(("two", key)))
    completions.subscribe(B, lambda key, _: told.append(("three", key)))
    completions.publish([A])
    completions.publish([A])
    assert told == [("one", A), ("two", A)]


def test_the_same_id_of_another_tenant_is_another_task() -> None:
    completions = Completions()
    told: list[TaskKey] = []
    completions.subscribe(A, lambda key, _: told.append(key))
    completions.publish([TaskKey("other", "a")])
    assert told == []


def test_who_waits_is_told_the_result_where_it_is_known_and_nobody_else_asks_for_it() -> None:
    completions = Completions()
    told: list[str | None] = []
    asked = 0

    def results() -> dict[TaskKey, str]:
        nonlocal asked
        asked += 1
        return {A: "7"}

    completions.publish([A], results)
    completions.subscribe(B, lambda _, result: told.append(result))
    completions.publish([A], results)
    assert asked == 0
    completions.subscribe(A, lambda _, result: told.append(result))
    completions.publish([A, B], results)
    assert (asked, sorted(told, key=str)) == (1, ["7", None])


def test_who_unsubscribes_is_not_told_and_may_do_so_again() -> None:
    completions = Completions()
    told: list[TaskKey] = []
    unsubscribe = completions.subscribe(A, lambda key, _: told.append(key))
    unsubscribe()
    unsubscribe()
    completions.publish([A])
    assert told == []
    assert completions._callbacks == {}


def test_a_waiter_that_raises_does_not_keep_the_news_from_the_others() -> None:
    completions = Completions()
    told: list[TaskKey] = []

    def broken(_: TaskKey, _result: str | None) -> None:
        raise RuntimeError("Event loop is closed")

    completions.subscribe(A, broken)
    completions.subscribe(A, lambda key, _: told.append(key))
    completions.publish([A])
    assert told == [A]


def test_subscribing_from_a_callback_waits_for_the_next_time() -> None:
    completions = Completions()
    told: list[str] = []

    def subscribe_again(key: TaskKey, _result: str | None) -> None:
        completions.subscribe(key, lambda *_: told.append("again"))

    completions.subscribe(A, subscribe_again)
    completions.publish([A])
    assert told == []
    completions.publish([A])
    assert told == ["again"]


def test_subscribing_and_publishing_from_many_threads_loses_nobody() -> None:
    completions = Completions()
    events = [threading.Event() for _ in range(200)]

    def publish() -> None:
        while not all(event.is_set() for event in events):
            completions.publish([A])

    publisher = threading.Thread(target=publish)
    publisher.start()
    for event in events:
        completions.subscribe(A, lambda *_, event=event: event.set())  # type: ignore[misc]
    publisher.join(10)
    assert all(event.is_set() for event in events)
