"""What a message says about its task, wherever it is made: a queue may sort by the timeout, and shows the trace."""

from __future__ import annotations

import pytest

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import OutboxEntry, TaskKey
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness, outcome

S = TaskStatus
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAID = (1_800.0, TRACEPARENT)


@pytest.fixture
def key(harness: MetadataHarness) -> TaskKey:
    return long_task(harness)


def long_task(harness: MetadataHarness, **changes: object) -> TaskKey:
    return harness.accepted(timeout_seconds=SAID[0], traceparent=TRACEPARENT, **changes)


def said(entries: list[OutboxEntry]) -> list[tuple[float, str | None]]:
    return [(entry.message.timeout_seconds, entry.message.traceparent) for entry in entries]


def test_of_a_submission(harness: MetadataHarness) -> None:
    long = harness.new(timeout_seconds=SAID[0], traceparent=TRACEPARENT)
    plain = harness.new(timeout_seconds=2.5)
    assert said(harness.insert(long, plain, outbox=True).to_send) == [SAID, (2.5, None)]


def test_of_a_retry(harness: MetadataHarness, key: TaskKey) -> None:
    [task] = harness.claim(key)
    assert (task.timeout_seconds, task.traceparent) == SAID
    assert said(harness.finish(outcome(task, S.RETRYING), outbox=True).to_send) == [SAID]


def test_of_a_task_that_another_one_released(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    long_task(harness, depends_on=(parent.task_id,))
    [task] = harness.claim(parent)
    assert said(harness.finish(outcome(task, S.COMPLETED), outbox=True).to_send) == [SAID]


def test_of_a_redriven_task(harness: MetadataHarness, key: TaskKey) -> None:
    harness.run(key, S.FAILED)
    result = harness.tasks.redrive(
        [key], delay_seconds=[0.0], max_queue_delay_seconds=MAX_DELAY, outbox=True
    )
    assert said(result.to_send) == [SAID]


def test_of_what_a_relay_finds(harness: MetadataHarness) -> None:
    long_task(harness, delay_seconds=2 * MAX_DELAY)
    harness.advance(2 * MAX_DELAY)
    found = harness.outbox.lease(lookahead_seconds=0, lease_seconds=30, limit=10)
    assert said(found) == [SAID]


def test_of_a_task_that_was_deleted_before_its_message_was_sent(harness: MetadataHarness) -> None:
    key = long_task(harness)
    [message] = harness.outbox.due(limit=10)
    harness.run(key, S.COMPLETED)
    harness.advance(86_400)
    harness.outbox.add([message])
    assert harness.retention.purge(finished_before=harness.database.now(), limit=10)[0] == 1
    found = harness.outbox.lease(lookahead_seconds=0, lease_seconds=30, limit=10)
    assert [entry.message.task_id for entry in found] == [key.task_id]
    assert said(found) == [(0.0, None)]
