"""Whole tasks: how many requests, transactions and how much CPU each costs, and how soon it starts."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from typing import NamedTuple

from benchmarks.embedded import finished, wait_for
from benchmarks.postgresql.ours import settled_transactions
from benchmarks.sqs.surroundings import counting, running
from taskflow import task
from tests.support import aws

WORKERS = 4
_PATIENCE_SECONDS = 60.0
_started = threading.Event()
_started_at = 0.0


class Load(NamedTuple):
    """Of ``tasks`` submitted in bulk. ``worker_cpu_seconds``: from when the workers start until all is done."""

    tasks: int
    requests: Counter[str]
    transactions: int
    seconds: float
    worker_cpu_seconds: float


def under_load(url: str, database_url: str, tasks: int, *, count: bool) -> Load:
    """With ``count`` all requests pass a proxy in this process, whose CPU counts, too."""
    if count:
        with counting(url) as proxy, running(database_url, workers=WORKERS) as app:
            proxy.forget()
            transactions = settled_transactions(database_url)
            before, began = finished(app), time.perf_counter()
            app.submit_many(("noop", (n,), {}) for n in range(tasks))
            wait_for(app, before + tasks)
            seconds = time.perf_counter() - began
            transactions = settled_transactions(database_url) - transactions  # and what acks last
            return Load(tasks, proxy.counts, transactions, seconds, 0.0)
    with running(database_url, workers=WORKERS) as app:
        app.stop_workers()
        before = finished(app)
        app.submit_many(("noop", (n,), {}) for n in range(tasks))
        while app.runtime.stores.outbox.next_due_seconds() is not None:
            time.sleep(0.1)  # messages are still being sent, beside those who submit
        cpu, began = time.process_time(), time.perf_counter()
        app.start_workers()
        wait_for(app, before + tasks)
        time.sleep(1.0)  # the last acks
        cpu = time.process_time() - cpu
        return Load(tasks, Counter(), 0, time.perf_counter() - began - 1.0, cpu)


def one_at_a_time(url: str, database_url: str, tasks: int) -> float:
    """Requests per task when each is submitted after the one before it has ended."""
    with counting(url) as proxy, running(database_url, workers=WORKERS) as app:
        proxy.forget()
        for n in range(tasks):
            app.submit("noop", n).result(timeout=_PATIENCE_SECONDS)
        time.sleep(1.0)
        return sum(proxy.counts.values()) / tasks


def idle(url: str, database_url: str, seconds: float) -> float:
    """Requests per second of a process whose workers have nothing to do."""
    with counting(url) as proxy, running(database_url, workers=WORKERS):
        time.sleep(5.0)  # what the first task left to do
        proxy.forget()
        time.sleep(seconds)
        return sum(proxy.counts.values()) / seconds


@task(name="note_start")
def _note_start() -> None:
    global _started_at
    _started_at = time.perf_counter()
    _started.set()


def submit_to_start(database_url: str, rounds: int) -> list[float]:
    """Seconds from the call of `submit` until the handler runs, on an idle worker."""
    times = []
    with running(database_url, workers=WORKERS) as app:
        for _ in range(rounds):
            _started.clear()
            began = time.perf_counter()
            handle = app.submit("note_start")
            assert _started.wait(_PATIENCE_SECONDS)
            times.append(_started_at - began)
            handle.result(timeout=_PATIENCE_SECONDS)
            time.sleep(0.05)
    return times


def send_to_receive(url: str, rounds: int) -> list[float]:
    """The emulator's own part: seconds from before a bare send until a bare long poll has brought the message."""
    sender, receiver = aws.client("sqs", url), aws.client("sqs", url)
    queue_url = sender.create_queue(QueueName=aws.unique("bare"))["QueueUrl"]
    times = []
    for n in range(rounds):
        got: list[float] = []

        def receive(got: list[float] = got) -> None:
            answer = receiver.receive_message(QueueUrl=queue_url, WaitTimeSeconds=20)
            got.append(time.perf_counter())
            receiver.delete_message(
                QueueUrl=queue_url, ReceiptHandle=answer["Messages"][0]["ReceiptHandle"]
            )

        thread = threading.Thread(target=receive)
        thread.start()
        time.sleep(0.05)
        began = time.perf_counter()
        sender.send_message_batch(
            QueueUrl=queue_url, Entries=[{"Id": "0", "MessageBody": f'{{"n": {n}}}'}]
        )
        thread.join()
        times.append(got[0] - began)
    sender.close()
    receiver.close()
    return times


def median_ms(times: list[float]) -> float:
    return statistics.median(times) * 1_000
