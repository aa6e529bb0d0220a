"""Which rows a relay finds, and when."""

from __future__ import annotations

import pytest

from taskflow.adapters.metadata.journal import MESSAGE_SECONDS, SENDING_SECONDS
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskKey
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness

YEAR = 365 * 86_400.0


def leased(harness: MetadataHarness) -> list[str]:
    entries = harness.outbox.lease(lookahead_seconds=MAX_DELAY, lease_seconds=30, limit=10)
    return [entry.message.task_id for entry in entries]


def test_what_its_submitter_is_sending_is_not_sent_by_a_relay_too(
    harness: MetadataHarness,
) -> None:
    task = harness.new()
    harness.insert(task, outbox=True)
    assert leased(harness) == []
    harness.advance(SENDING_SECONDS - 0.5)
    assert leased(harness) == []
    harness.advance(1.0)
    assert leased(harness) == [task.id]  # by now its submitter must have died


def test_who_has_many_to_send_has_longer(harness: MetadataHarness) -> None:
    tasks = [harness.new() for _ in range(500)]
    harness.insert(*tasks, outbox=True)
    longest = SENDING_SECONDS + len(tasks) * MESSAGE_SECONDS
    assert longest >= 50 * 0.1  # a request for ten messages may take so long
    harness.advance(longest - 0.5)
    assert leased(harness) == []
    harness.advance(1.0)
    assert len(leased(harness)) == 10


def test_what_nobody_else_sends_is_for_the_next_relay(harness: MetadataHarness) -> None:
    task, far = harness.new(), harness.new(delay_seconds=2 * MAX_DELAY)
    harness.submissions.insert([task], max_waiting=0, max_queue_delay_seconds=0.0, outbox=True)
    harness.insert(far)
    assert leased(harness) == [task.id]
    harness.advance(MAX_DELAY)
    assert leased(harness) == [task.id, far.id]  # the first lease has ended


@pytest.mark.parametrize("outbox", [False, True])  # whether every message has a row
def test_a_task_that_ends_long_before_it_is_due_leaves_no_message(
    harness: MetadataHarness, outbox: bool
) -> None:
    cancelled = harness.new(delay_seconds=YEAR)
    expired = harness.new(delay_seconds=YEAR, expires_in_seconds=60.0)
    kept = harness.new(delay_seconds=YEAR, tenant_id="other")
    harness.insert(cancelled, expired, kept, outbox=outbox)
    retrying = harness.accepted()
    harness.run(retrying, TaskStatus.RETRYING, retry_delay_seconds=YEAR)
    assert harness.count("outbox") == 4
    harness.tasks.cancel([TaskKey("default", cancelled.id), retrying])
    harness.advance(61)
    assert harness.execution.expire(limit=10) == ([TaskKey("default", expired.id)], [])
    assert harness.count("outbox") == 1
    harness.advance(YEAR)
    assert leased(harness) == [kept.id]


def test_a_task_that_is_run_anew_gets_a_new_message(harness: MetadataHarness) -> None:
    key = harness.accepted(delay_seconds=YEAR)
    harness.tasks.cancel([key])
    harness.tasks.redrive(
        [key], delay_seconds=[2 * YEAR], max_queue_delay_seconds=MAX_DELAY, outbox=False
    )
    harness.advance(YEAR)
    assert leased(harness) == []
    harness.advance(YEAR)
    assert leased(harness) == [key.task_id]
