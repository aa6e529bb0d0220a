"""Numbers stay right, and stay few, while tasks end, run anew and are deleted."""

from __future__ import annotations

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskCounts
from tests.contract.metadata.conftest import MetadataHarness

S = TaskStatus
HOUR = 3_600.0


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
    harness.tasks.purge(finished_before=harness.database.now(), limit=1)
    assert ended(harness.insights.counts(None)) == {"failed": 1}
    harness.insights.fold(ended_before=harness.database.now())
    assert ended(harness.insights.counts(None)) == {"failed": 1}
    harness.tasks.purge(finished_before=harness.database.now(), limit=10)
    harness.advance(3 * HOUR)
    harness.insights.fold(ended_before=harness.database.now())
    assert harness.count("tallies") == 0
    assert ended(harness.insights.counts(None)) == {}
