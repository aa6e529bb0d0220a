"""Who gets a new message because the old one is about to be forgotten."""

from __future__ import annotations

from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.resending import SqlResending
from taskflow.core.task import TaskStatus
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness

DAY = 86_400.0


def resend(harness: MetadataHarness, limit: int = 10) -> int:
    store = SqlResending(harness.database, Journal(harness.database, harness.new_id))
    return store.resend(silent_seconds=3 * DAY, limit=limit)


def leased(harness: MetadataHarness) -> list[str]:
    entries = harness.outbox.lease(lookahead_seconds=MAX_DELAY, lease_seconds=30, limit=10)
    return [entry.message.task_id for entry in entries]


def test_a_task_that_waits_for_days_gets_a_new_message_and_its_history_says_so(
    harness: MetadataHarness,
) -> None:
    key = harness.accepted()
    harness.advance(2.9 * DAY)
    assert resend(harness) == 0
    harness.advance(0.2 * DAY)
    assert resend(harness) == 1
    assert leased(harness) == [key.task_id]
    assert harness.status(key) == "pending"
    assert harness.history(key) == ["submitted", "resent"]


def test_it_gets_the_next_one_as_much_later_and_none_while_one_is_to_be_sent(
    harness: MetadataHarness,
) -> None:
    harness.accepted()
    harness.advance(3.1 * DAY)
    assert resend(harness) == 1
    assert resend(harness) == 0
    harness.advance(3.1 * DAY)
    assert resend(harness) == 0  # its outbox row is still there: whoever relays is behind
    entries = harness.outbox.lease(lookahead_seconds=MAX_DELAY, lease_seconds=30, limit=10)
    harness.outbox.delete([entry.entry_id for entry in entries if entry.entry_id])
    assert resend(harness) == 1


def test_what_runs_is_final_or_is_not_due_for_so_long_is_left_alone(
    harness: MetadataHarness,
) -> None:
    running, done = harness.accepted(), harness.accepted()
    harness.accepted(delay_seconds=2 * DAY)
    harness.claim(running)
    harness.run(done, TaskStatus.COMPLETED)
    harness.accepted(depends_on=(harness.accepted(delay_seconds=30 * DAY).task_id,))
    harness.advance(4 * DAY)
    assert resend(harness) == 0


def test_whatever_happened_to_a_task_since_brought_it_a_message(harness: MetadataHarness) -> None:
    key = harness.accepted()
    harness.advance(2 * DAY)
    harness.run(key, TaskStatus.RETRYING, retry_delay_seconds=1.0)
    harness.advance(2 * DAY)
    assert resend(harness) == 0
    harness.advance(1.1 * DAY)
    assert resend(harness) == 1


def test_batches_are_as_large_as_asked_for(harness: MetadataHarness) -> None:
    for _ in range(3):
        harness.accepted()
    harness.advance(4 * DAY)
    assert [resend(harness, limit=2) for _ in range(3)] == [2, 1, 0]
