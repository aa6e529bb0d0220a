"""What is not in the queue yet: far delays, refused messages, messages of processes without workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskflow.adapters.queue.chaos import ChaosQueue, ChaosRates
from taskflow.adapters.queue.local import LocalTaskQueue
from taskflow.bootstrap import build
from taskflow.core.registry import Registry
from taskflow.core.retry import Retry
from taskflow.core.task import DEFAULT_TENANT
from taskflow.settings import load
from taskflow.testing import FakeClock
from tests.integration.services.conftest import Engine, Engines, noop
from tests.support.database_time import about_sqlite

MINUTE, DAY = 60.0, 86_400.0


@pytest.mark.parametrize("delay", [16 * MINUTE, 60 * DAY])
def test_a_far_delay_fires_on_time(engine: Engine, delay: float) -> None:
    task_id = engine.submit(engine.handler(noop), delay=delay)
    assert engine.count("outbox") == 1
    relay = engine.runtime.relay
    assert relay.run_once() > 0
    assert sum(depth.delayed for depth in engine.runtime.queue.depths().values()) == 0
    engine.clock.advance(delay - 10 * MINUTE)
    relay.run_once()
    assert engine.count("outbox") == 0
    assert engine.work() == 0
    engine.clock.advance(10 * MINUTE - 1)
    relay.run_once()
    assert engine.work() == 0
    engine.clock.advance(1)
    assert engine.work() == 1
    assert engine.get(task_id).started_at == engine.get(task_id).run_at


def test_a_far_retry_fires_on_time_after_a_restart(engines: Engines) -> None:
    first = engines()
    task_id = first.submit(first.handler(noop))
    first.fail(first.start_one(), Retry("next week", delay=7 * DAY))
    first.runtime.close()
    second = engines()
    second.runtime.relay.rebuild()
    second.clock.advance(7 * DAY - 1)
    second.runtime.relay.run_once()
    assert second.work() == 0
    second.clock.advance(1)
    assert second.work() == 1
    assert second.status(task_id) == "completed"


def test_what_a_process_without_workers_submits_is_run_by_one_that_has_some(
    engines: Engines,
) -> None:
    submitter, worker = engines(with_worker=False), engines()
    task_id = submitter.submit(submitter.handler(noop))
    later = submitter.submit("noop", delay=30)
    assert submitter.count("outbox") == 2
    assert submitter.receive() == []
    worker.runtime.relay.run_once()
    assert worker.count("outbox") == 0
    assert worker.work() == 1
    worker.clock.advance(30)
    assert worker.work() == 1
    assert {submitter.status(task_id), submitter.status(later)} == {"completed"}


def test_a_message_is_relayed_by_one_process_only(engines: Engines) -> None:
    submitter, one, two = engines(with_worker=False), engines(), engines()
    task = submitter.handler(noop)
    made = {submitter.submit(task, delay=10) for _ in range(20)}
    one.runtime.relay.run_once()
    two.runtime.relay.run_once()
    one.clock.advance(10)
    received = [delivery.task_id for engine in (one, two) for delivery in engine.receive()]
    assert sorted(received) == sorted(made)


def test_what_the_queue_refuses_waits_in_the_outbox_and_is_sent_later(engines: Engines) -> None:
    """Here because it has been closed; a distributed queue would because it cannot be reached."""
    engine = engines()
    task = engine.handler(noop)
    engine.submit(task)
    attempt = engine.start_one()
    engine.runtime.queue.close()
    submitted = engine.submit(task)
    engine.fail(attempt, Retry(delay=5))
    assert engine.count("outbox") == 2
    assert (
        engine.runtime.relay.run_once() == 1.0
    )  # no hurry: what was refused is not asked for at once
    assert engine.count("outbox") == 2
    other = engines()
    other.clock.advance(31)
    other.runtime.relay.run_once()
    assert other.count("outbox") == 0
    assert other.work() == 2
    assert other.status(submitted) == "completed"


class DurableQueue(LocalTaskQueue):
    """As far as others can see a queue like SQS: nothing is looked for in the store, all goes through the outbox."""

    durable = True


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_refused_now_and_then_is_sent_with_one_of_the_next_looks(
    tmp_path: Path, seed: int
) -> None:
    clock, registry = FakeClock(), Registry()
    queue = ChaosQueue(
        DurableQueue(clock, visibility_timeout_seconds=3_600),
        seed=seed,
        rates=ChaosRates(fail_send=0.5, delay=0, drop_ack=0),
    )
    runtime = build(load(home=tmp_path), clock=clock, registry=registry, queue=queue)
    engine = Engine(runtime, clock, registry, tmp_path)
    task = engine.handler(noop)
    for _ in range(40):
        engine.submit(task)
    assert engine.work() < 40
    for _ in range(20):  # seconds: far less than the lease that a row has while it is being sent
        clock.advance(runtime.relay.run_once())
        engine.work()
    assert engine.count("outbox") == 0
    assert runtime.insights.metrics(DEFAULT_TENANT)["queue"]["completed_count"] == 40
    runtime.close()


def test_a_queue_that_is_away_does_not_keep_the_relay_busy(engine: Engine) -> None:
    """What is refused in bulk stays reserved for a while: others behind it get their turn."""
    task = engine.handler(noop)
    engine.runtime.queue.close()
    for _ in range(60):
        engine.submit(task)
    assert engine.runtime.relay.drain() == 0
    leased = engine.runtime.stores.outbox.lease(lookahead_seconds=0, lease_seconds=30, limit=100)
    assert leased == []


@about_sqlite
def test_nothing_is_written_when_the_relay_or_the_recovery_have_nothing_to_do(
    engine: Engine,
) -> None:
    """Idle processes must not compete for the write lock, nor wake the disk."""
    task = engine.handler(noop)
    engine.submit(task)
    engine.submit(task, expires_in=60, delay=DAY)
    engine.start_one()
    engine.runtime.retention.run_once()
    log = engine.home / "taskflow.db-wal"
    before = log.stat()
    for _ in range(3):
        engine.runtime.relay.run_once()
        engine.runtime.recovery.run_once()
        engine.runtime.retention.run_once()
        engine.clock.advance(1)
    assert (log.stat().st_size, log.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_rebuilding_twice_sends_nothing_twice_and_the_most_urgent_first(engines: Engines) -> None:
    first = engines()
    task = first.handler(noop)
    low, high = first.submit(task, priority="low"), first.submit(task, priority="critical")
    soon, running = first.submit(task, delay=50), first.submit(task, priority="critical")
    first.submit(task, delay=DAY)
    [_, attempt] = first.start(2)
    assert attempt.task.task_id == running
    second = engines()
    assert second.runtime.relay.rebuild() == 2
    assert second.runtime.relay.rebuild() == 2
    assert [delivery.task_id for delivery in second.receive()] == [low]
    second.clock.advance(50)
    assert [delivery.task_id for delivery in second.receive()] == [soon]
    assert first.status(high) == "running"


def test_a_message_lost_by_the_queue_is_found_again(engine: Engine) -> None:
    task_id = engine.submit(engine.handler(noop))
    engine.runtime.queue.ack([delivery.receipt for delivery in engine.receive()])
    assert engine.receive() == []
    engine.runtime.relay.run_once()
    assert engine.work() == 1
    assert engine.runtime.tasks.wait(DEFAULT_TENANT, task_id, 0).status == "completed"
