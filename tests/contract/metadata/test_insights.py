"""Numbers stay right, and stay few, while tasks end, run anew and are deleted."""

from __future__ import annotations

import pytest

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskCounts
from tests.contract.metadata.conftest import MetadataHarness

S = TaskStatus
HOUR = 3_600.0
SLOW = 45.0  # seconds that a test may take: PostgreSQL's clock goes on meanwhile


def ended(counts: TaskCounts) -> dict[str, int]:
    return {s: n for s, n in counts.by_status.items() if n and TaskStatus(s).is_final}


def test_old_hours_are_folded_into_totals_and_nothing_is_lost(harness: MetadataHarness) -> None:
    keys = []
    for _ in range(5):
        for tenant_id, end in (
            ("default", S.COMPLETED),
            ("default", S.FAILED),
            ("other", S.FAILED),
        ):
            keys.append(harness.accepted(tenant_id=tenant_id))
            harness.run(keys[-1], end)
        harness.advance(HOUR)
    before = harness.insights.counts(None), harness.insights.counts("default")
    assert harness.count("tallies") == 15
    recent = harness.database.now() - int(1.5 * HOUR * 1_000_000)
    assert harness.insights.fold(ended_before=recent) >= 9
    assert harness.insights.fold(ended_before=recent) == 0
    assert harness.count("tallies") <= 9
    after = harness.insights.counts(None), harness.insights.counts("default")
    assert [ended(counts) for counts in after] == [ended(counts) for counts in before]
    assert ended(after[0]) == {"completed": 5, "failed": 10}


def test_what_is_redriven_or_purged_after_the_fold_no_longer_counts(
    harness: MetadataHarness,
) -> None:
    redriven, purged, stays = (harness.accepted() for _ in range(3))
    for key in (redriven, purged, stays):
        harness.run(key, S.FAILED)
    harness.advance(3 * HOUR)
    harness.insights.fold(ended_before=harness.database.now())
    harness.tasks.redrive(
        [redriven], delay_seconds=[0.0], max_queue_delay_seconds=900, outbox=False
    )
    harness.retention.purge(finished_before=harness.database.now(), limit=1)
    assert ended(harness.insights.counts(None)) == {"failed": 1}
    harness.insights.fold(ended_before=harness.database.now())
    assert ended(harness.insights.counts(None)) == {"failed": 1}
    harness.retention.purge(finished_before=harness.database.now(), limit=10)
    harness.advance(3 * HOUR)
    harness.insights.fold(ended_before=harness.database.now())
    assert harness.count("tallies") == 0
    assert ended(harness.insights.counts(None)) == {}


def test_the_backlog_is_what_is_due_and_not_there_yet(harness: MetadataHarness) -> None:
    assert harness.insights.backlog(most=10) == (0, 0.0, dict.fromkeys(range(4), 0.0))
    running = harness.accepted(priority=2)
    harness.claim(running)
    harness.advance(200)
    harness.accepted(priority=2)
    harness.advance(300)
    harness.accepted(priority=2)
    harness.accepted(priority=0)
    harness.accepted(priority=1, delay_seconds=600)  # not due, nor is its message
    harness.advance(50)
    found = harness.insights.backlog(most=10)
    waiting = {0: 50, 1: 0, 2: 350, 3: 0}
    assert found.oldest_waiting_seconds == pytest.approx(waiting, abs=SLOW)
    assert (found.overdue_messages, found.overdue_seconds) == (0, 0.0)
    harness.advance(600)
    found = harness.insights.backlog(most=10)
    assert found.oldest_waiting_seconds[1] == pytest.approx(50, abs=SLOW)


def test_messages_that_nobody_sent_are_counted_up_to_a_limit(harness: MetadataHarness) -> None:
    for seconds in range(4):
        harness.accepted(delay_seconds=1_000 + seconds)
    assert harness.insights.backlog(most=3)[:2] == (0, 0.0)
    harness.advance(1_110)
    found = harness.insights.backlog(most=3)
    assert found.overdue_messages == 3
    assert found.overdue_seconds == pytest.approx(110, abs=SLOW)
    assert harness.insights.backlog(most=100).overdue_messages == 4
