"""Which rows a relay finds, and when."""

from __future__ import annotations

from taskflow.adapters.metadata.journal import SENDING_SECONDS
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness


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


def test_what_nobody_else_sends_is_for_the_next_relay(harness: MetadataHarness) -> None:
    task, far = harness.new(), harness.new(delay_seconds=2 * MAX_DELAY)
    harness.submissions.insert([task], max_waiting=0, max_queue_delay_seconds=0.0, outbox=True)
    harness.insert(far)
    assert leased(harness) == [task.id]
    harness.advance(MAX_DELAY)
    assert leased(harness) == [task.id, far.id]  # the first lease has ended
