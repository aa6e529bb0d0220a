"""Nobody waits for a queue that does not answer: what has been committed is in the outbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.bootstrap import build
from taskflow.core.registry import Registry
from taskflow.core.retry import Retry
from taskflow.core.task import DEFAULT_TENANT, TaskPriority
from taskflow.ports.metadata import OutboxEntry
from taskflow.ports.queue import EnqueueFailure, Message
from taskflow.services.sending import Sending
from taskflow.settings import load
from taskflow.testing import FakeClock
from tests.contract.queue.harness import Call
from tests.integration.services.conftest import Engine, Engines, noop
from tests.support import sqs


class SlowQueue(LocalTaskQueue):
    """As far as others can see a queue like SQS. While it ``hangs`` no send is answered."""

    durable = True
    remote = True

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock, visibility_timeout_seconds=3_600)
        self.answers = threading.Event()
        self.answers.set()
        self.asked: list[Sequence[Message]] = []
        self.gave_up = False

    def enqueue(self, messages: Sequence[Message]) -> list[EnqueueFailure]:
        self.asked.append(messages)
        if not self.answers.wait(sqs.PATIENCE_SECONDS):
            self.gave_up = True
        return super().enqueue(messages)


@pytest.fixture
def queue(clock: FakeClock) -> SlowQueue:
    return SlowQueue(clock)


@pytest.fixture
def engine(tmp_path: Path, clock: FakeClock, queue: SlowQueue) -> Iterator[Engine]:
    registry = Registry()
    runtime = build(load(home=tmp_path), clock=clock, registry=registry, queue=queue)
    yield Engine(runtime, clock, registry, tmp_path)
    queue.answers.set()
    runtime.close()


def unsent(engine: Engine) -> list[OutboxEntry]:
    """A message, in a row of the outbox that no relay looks at."""
    outbox = engine.runtime.stores.outbox
    outbox.add([Message(str(uuid4()), DEFAULT_TENANT, "noop", TaskPriority.NORMAL)])
    return outbox.lease(lookahead_seconds=0, lease_seconds=3_600, limit=2)


def impatient(engine: Engine, queue: SlowQueue) -> Sending:
    outbox = engine.runtime.stores.outbox
    return Sending(queue, outbox, patience_seconds=0.0, most_under_way=2)


def test_a_submission_does_not_wait_for_a_queue_that_does_not_answer(
    engine: Engine, queue: SlowQueue, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the first is patient. All have been sent when the queue answers at last, and once."""
    task = engine.handler(noop)
    queue.answers.clear()
    submitted = [engine.submit(task) for _ in range(3)]
    assert not queue.gave_up
    assert {engine.status(task_id) for task_id in submitted} == {"pending"}
    assert engine.count("outbox") == 3
    assert sum("queue.send_slow" in record.getMessage() for record in caplog.records) == 1
    queue.answers.set()
    sqs.until(lambda: engine.count("outbox") == 0)
    assert engine.work() == 3
    assert len(queue.asked) == 3


def test_nor_does_an_outcome_that_has_a_task_run_again(engine: Engine, queue: SlowQueue) -> None:
    task_id = engine.submit(engine.handler(noop))
    attempt = engine.start_one()
    queue.answers.clear()
    engine.fail(attempt, Retry(delay=5))
    assert not queue.gave_up
    assert (engine.status(task_id), engine.count("outbox")) == ("retrying", 1)
    queue.answers.set()
    sqs.until(lambda: engine.count("outbox") == 0)
    engine.clock.advance(5)
    assert engine.work() == 1


def test_while_too_many_sends_hang_messages_are_left_to_the_relay(
    engine: Engine, queue: SlowQueue
) -> None:
    queue.answers.clear()
    sending = impatient(engine, queue)
    for _ in range(5):
        sending.send(unsent(engine))
    sqs.until(lambda: len(queue.asked) == 2)
    assert engine.count("outbox") == 5
    queue.answers.set()
    sqs.until(lambda: engine.count("outbox") == 3)
    sending.send(unsent(engine))
    sqs.until(lambda: engine.count("outbox") == 3)
    assert len(queue.asked) == 3


def test_how_long_and_how_many_are_settings(
    tmp_path: Path, clock: FakeClock, queue: SlowQueue, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(home=tmp_path, queue_send_seconds=0.125, queue_max_sends=2)
    runtime = build(settings, clock=clock, registry=Registry(), queue=queue)
    engine = Engine(runtime, clock, Registry(), tmp_path)
    queue.answers.clear()
    for _ in range(3):
        runtime.sending.send(unsent(engine))
    sqs.until(lambda: len(queue.asked) == 2)
    assert "waited_seconds=0.125" in caplog.text
    queue.answers.set()
    sqs.until(lambda: engine.count("outbox") == 1)
    runtime.close()
    assert len(queue.asked) == 2


def test_an_outbox_that_fails_is_said_though_nobody_waits(
    engine: Engine,
    queue: SlowQueue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: Sequence[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(engine.runtime.stores.outbox, "delete", fail)
    sending = impatient(engine, queue)
    sending.send(unsent(engine))
    sending.close()
    assert "ZeroDivisionError" in caplog.text


def test_what_is_under_way_when_it_closes_is_waited_for(engine: Engine, queue: SlowQueue) -> None:
    queue.answers.clear()
    sending = impatient(engine, queue)
    sending.send(unsent(engine))
    closing = Call(sending.close)
    queue.answers.set()
    closing.result()
    assert engine.count("outbox") == 0
    sending.send(unsent(engine))
    assert (engine.count("outbox"), len(queue.asked)) == (1, 1)


def test_but_not_for_ever(
    engine: Engine, queue: SlowQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskflow.services.sending._CLOSE_SECONDS", 0.01)
    queue.answers.clear()
    engine.submit(engine.handler(noop))
    engine.runtime.sending.close()
    assert not queue.gave_up
    assert engine.count("outbox") == 1


def test_a_queue_in_this_process_is_filled_by_whoever_submits(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines()
    senders: list[threading.Thread] = []
    enqueue = engine.runtime.queue.enqueue

    def noting(messages: Sequence[Message]) -> list[EnqueueFailure]:
        senders.append(threading.current_thread())
        return enqueue(messages)

    monkeypatch.setattr(engine.runtime.queue, "enqueue", noting)
    engine.submit(engine.handler(noop))
    assert senders == [threading.current_thread()]
