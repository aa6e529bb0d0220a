"""Running final tasks anew, when others depend on them."""

from __future__ import annotations

from collections.abc import Sequence

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import RedriveResult, TaskKey
from tests.contract.metadata.conftest import MetadataHarness

S = TaskStatus


def redrive(harness: MetadataHarness, keys: Sequence[TaskKey]) -> RedriveResult:
    return harness.tasks.redrive(
        keys, delay_seconds=[0.0] * len(keys), max_queue_delay_seconds=900, outbox=False
    )


def sent(result: RedriveResult) -> set[str]:
    return {entry.message.task_id for entry in result.to_send}


def test_a_task_redriven_together_with_what_it_depends_on_waits_for_it(
    harness: MetadataHarness,
) -> None:
    root = harness.accepted()
    child = harness.accepted(depends_on=(root.task_id,))
    grandchild = harness.accepted(depends_on=(child.task_id,))
    harness.run(root, S.FAILED)
    result = redrive(harness, [grandchild, child, root])
    assert sent(result) == {root.task_id}
    assert set(result.redriven) == {root, child, grandchild}
    assert [harness.status(key) for key in (root, child, grandchild)] == [
        "pending",
        "blocked",
        "blocked",
    ]
    assert harness.claim(child, grandchild) == []
    harness.run(root, S.COMPLETED)
    harness.run(child, S.COMPLETED)
    assert harness.status(grandchild) == "pending"
    counts = harness.insights.counts(None).by_status
    assert (counts["failed"], counts["completed"], counts["pending"]) == (0, 2, 1)


def test_a_task_that_also_depends_on_another_failed_one_stays_failed_and_does_not_wait_for_ever(
    harness: MetadataHarness,
) -> None:
    one, two = harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(one.task_id, two.task_id))
    grandchild = harness.accepted(depends_on=(child.task_id,))
    harness.run(one, S.FAILED)
    harness.run(two, S.FAILED)
    result = redrive(harness, [one, child])
    assert result.redriven == [one]
    assert (harness.status(child), harness.status(grandchild)) == ("failed", "failed")
    harness.run(one, S.COMPLETED)
    assert set(redrive(harness, [two]).redriven) == {two, child, grandchild}
    assert harness.status(child) == "blocked"
    harness.run(two, S.COMPLETED)
    assert harness.status(child) == "pending"


def test_a_diamond_with_legs_of_different_length_waits_again_as_a_whole(
    harness: MetadataHarness,
) -> None:
    root = harness.accepted()
    middle = harness.accepted(depends_on=(root.task_id,))
    end = harness.accepted(depends_on=(root.task_id, middle.task_id))
    harness.run(root, S.CANCELLED)
    result = redrive(harness, [root])
    assert set(result.redriven) == {root, middle, end}
    harness.run(root, S.COMPLETED)
    assert (harness.status(middle), harness.status(end)) == ("pending", "blocked")
    harness.run(middle, S.COMPLETED)
    assert harness.status(end) == "pending"


def test_by_itself_a_task_whose_dependency_failed_is_run_as_asked(harness: MetadataHarness) -> None:
    root = harness.accepted()
    child = harness.accepted(depends_on=(root.task_id,))
    grandchild = harness.accepted(depends_on=(child.task_id,))
    harness.run(root, S.FAILED)
    result = redrive(harness, [child, grandchild])
    assert sent(result) == {child.task_id}
    assert set(result.redriven) == {child, grandchild}
    harness.run(child, S.COMPLETED)
    assert harness.status(grandchild) == "pending"


def test_what_is_run_anew_waits_for_what_it_depends_on(harness: MetadataHarness) -> None:
    parents = [harness.accepted() for _ in range(3)]
    child = harness.accepted(depends_on=tuple(parent.task_id for parent in parents))
    harness.run(parents[0], S.COMPLETED)
    harness.tasks.cancel([child])
    result = redrive(harness, [child])
    assert (result.redriven, sent(result)) == ([child], set())
    assert harness.status(child) == "blocked"
    assert harness.claim(child) == []
    harness.run(parents[1], S.COMPLETED)
    assert harness.status(child) == "blocked"
    harness.run(parents[2], S.COMPLETED)
    harness.run(child, S.COMPLETED)
    assert harness.history(child)[:4] == ["submitted", "cancelled", "redriven", "released"]


def test_a_task_that_ran_waits_again_when_it_is_run_anew_after_what_it_depends_on(
    harness: MetadataHarness,
) -> None:
    parent = harness.accepted()
    child = harness.accepted(depends_on=(parent.task_id,))
    for key in (parent, child):
        harness.run(key, S.COMPLETED)
    assert sent(redrive(harness, [child, parent])) == {parent.task_id}
    assert harness.status(child) == "blocked"
    harness.run(parent, S.FAILED)
    assert harness.status(child) == "failed"


def test_what_is_not_final_is_left_alone_and_not_counted(harness: MetadataHarness) -> None:
    failed, waiting, unknown = (
        harness.accepted(),
        harness.accepted(),
        TaskKey("default", harness.new_id()),
    )
    harness.run(failed, S.FAILED)
    result = redrive(harness, [failed, waiting, unknown])
    assert result.redriven == [failed]
    assert result.before == {failed: S.FAILED, waiting: S.PENDING, unknown: None}


def test_payloads_of_forgotten_results_are_named(harness: MetadataHarness) -> None:
    large, small = harness.accepted(), harness.accepted()
    harness.run(large, S.COMPLETED, result=None, result_key="default/result/1.2")
    harness.run(small, S.COMPLETED)
    assert redrive(harness, [large, small]).payloads == ["default/result/1.2"]
    assert redrive(harness, [large]).payloads == []
