"""Many threads at one queue."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial

from taskflow.ports.queue import Selector
from tests.contract.queue.harness import Call, QueueHarness, ids, message


def test_of_many_waiting_consumers_exactly_one_gets_each_message(harness: QueueHarness) -> None:
    for round_ in range(harness.rounds):
        start = threading.Barrier(9)

        def consume(start: threading.Barrier = start) -> list[str]:
            start.wait()
            deliveries = harness.queue.dequeue(max_messages=1, timeout_seconds=60)
            harness.queue.ack([delivery.receipt for delivery in deliveries])
            return ids(deliveries)

        consumers = [Call(consume) for _ in range(8)]
        sent = [f"{round_}-{n}" for n in range(8)]
        start.wait()
        for task_id in sent:
            harness.queue.enqueue([message(task_id)])
        assert sorted(i for consumer in consumers for i in consumer.result()) == sent


def test_producers_and_consumers_lose_and_double_nothing(harness: QueueHarness) -> None:
    producers, each, batch = 4, harness.volume, 10
    start = threading.Barrier(producers * 2)
    done = threading.Event()

    def produce(number: int) -> None:
        start.wait()
        for first in range(0, each, batch):
            harness.queue.enqueue(
                [
                    message(f"{number}-{n}", tenant_id=f"tenant{number}", priority=n % 4)
                    for n in range(first, first + batch)
                ]
            )

    counted: Counter[str] = Counter()
    lock = threading.Lock()

    def consume(number: int) -> None:
        start.wait()
        while not done.is_set():
            deliveries = harness.queue.dequeue(max_messages=number + 1, timeout_seconds=60)
            back = [
                d.receipt for d in deliveries if d.receive_count == 1 and hash(d.task_id) % 5 == 0
            ]
            harness.queue.nack(back)
            kept = [d for d in deliveries if d.receipt not in back]
            harness.queue.ack([d.receipt for d in kept])
            with lock:
                counted.update(ids(kept))
                if counted.total() >= producers * each:
                    done.set()
                    harness.queue.wake()

    calls = [Call(partial(produce, n)) for n in range(producers)]
    calls += [Call(partial(consume, n)) for n in range(producers)]
    for call in calls[:producers]:
        call.result()
    for call in calls[producers:]:
        call.result_while(lambda: harness.queue.wake() if done.is_set() else None)
    assert counted == Counter(f"{p}-{n}" for p in range(producers) for n in range(each))


def test_a_message_wakes_the_one_consumer_that_accepts_it(harness: QueueHarness) -> None:
    for round_ in range(harness.rounds):
        start = threading.Barrier(5)

        def consume(task: str, start: threading.Barrier = start) -> list[str]:
            start.wait()
            deliveries = harness.queue.dequeue(
                max_messages=1, timeout_seconds=60, selector=Selector(tasks=frozenset({task}))
            )
            harness.queue.ack([delivery.receipt for delivery in deliveries])
            return [delivery.task for delivery in deliveries]

        names = ["a", "b", "c", "d"]
        consumers = {name: Call(partial(consume, name)) for name in names}
        start.wait()
        for name in reversed(names):
            harness.queue.enqueue([message(f"{round_}-{name}", task=name)])
        assert {name: consumer.result() for name, consumer in consumers.items()} == {
            name: [name] for name in names
        }
