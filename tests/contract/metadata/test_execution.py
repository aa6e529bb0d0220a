"""ExecutionStore: one owner at a time, and nobody else writes."""

from __future__ import annotations

import threading

import pytest

from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import Lease, TaskKey
from tests.contract.metadata.conftest import MetadataHarness, outcome

S = TaskStatus


def test_a_claimed_task_runs_with_a_new_attempt_and_lease(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [task] = harness.claim(key)
    assert (task.task_id, task.attempt, task.arguments) == (key.task_id, 1, '[[],{"x":1}]')
    assert harness.status(key) == "running"
    assert harness.task(key).worker_id == "w1"
    assert harness.history(key) == ["submitted", "started"]


def test_a_task_is_claimed_once_however_often_it_is_delivered(harness: MetadataHarness) -> None:
    key = harness.accepted()
    result = harness.execution.claim([key, key], worker_id="w1", lease_seconds=30)
    assert len(result.tasks) == 1
    again = harness.execution.claim([key], worker_id="w2", lease_seconds=30)
    assert again.tasks == []
    assert again.unclaimed[0].retry_in_seconds is None


def test_a_batch_is_claimed_in_the_order_asked_for(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(5)][::-1]
    assert [task.task_id for task in harness.claim(*keys)] == [key.task_id for key in keys]


def test_an_early_message_is_told_when_to_come_back(harness: MetadataHarness) -> None:
    key = harness.accepted(delay_seconds=60.0)
    [early] = harness.execution.claim([key], worker_id="w1", lease_seconds=30).unclaimed
    assert early.retry_in_seconds == pytest.approx(60, abs=1)
    harness.advance(61)
    assert len(harness.claim(key)) == 1


def test_unknown_cancelled_and_finished_tasks_are_forgotten(harness: MetadataHarness) -> None:
    unknown, cancelled, finished = (
        TaskKey("default", harness.new_id()),
        harness.accepted(),
        harness.accepted(),
    )
    harness.tasks.cancel([cancelled])
    harness.run(finished, S.COMPLETED)
    result = harness.execution.claim(
        [unknown, cancelled, finished], worker_id="w1", lease_seconds=30
    )
    assert result.tasks == []
    assert [u.retry_in_seconds for u in result.unclaimed] == [None, None, None]
    assert [u.is_known for u in result.unclaimed] == [False, True, True]


def test_concurrent_claims_share_the_tasks_without_overlap(harness: MetadataHarness) -> None:
    for _ in range(10):
        keys = [harness.accepted() for _ in range(20)]
        barrier = threading.Barrier(4)
        claimed: list[str] = []

        def claim(
            keys: list[TaskKey] = keys,
            barrier: threading.Barrier = barrier,
            claimed: list[str] = claimed,
        ) -> None:
            barrier.wait()
            claimed.extend(task.task_id for task in harness.claim(*keys))

        threads = [threading.Thread(target=claim) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(claimed) == sorted(key.task_id for key in keys)


def test_a_completed_task_has_its_result_and_history(harness: MetadataHarness) -> None:
    key = harness.accepted()
    result = harness.run(key, S.COMPLETED)
    assert result.ended == [key]
    task = harness.task(key)
    assert (task.status, task.result, task.duration_ms) == ("completed", {"ok": True}, 1.5)
    assert task.finished_at is not None
    assert harness.history(key) == ["submitted", "started", "completed"]


def test_an_outcome_under_a_lost_lease_is_fenced(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [first] = harness.claim(key)
    harness.finish(outcome(first, S.PENDING))
    [second] = harness.claim(key, worker_id="w2")
    late = outcome(first, S.FAILED)
    result = harness.finish(late)
    assert (result.fenced, result.ended) == ([late], [])
    assert harness.status(key) == "running"
    assert harness.finish(outcome(second, S.COMPLETED)).fenced == []
    late = outcome(second, S.FAILED)
    assert harness.finish(late).fenced == [late]
    assert harness.status(key) == "completed"
    assert harness.history(key).count("completed") == 1


def test_a_batch_with_fenced_outcomes_writes_the_others(harness: MetadataHarness) -> None:
    one, two = harness.accepted(), harness.accepted()
    [lost] = harness.claim(one)
    [kept] = harness.claim(two)
    harness.finish(outcome(lost, S.PENDING))
    late = outcome(lost, S.COMPLETED)
    result = harness.finish(late, outcome(kept, S.COMPLETED))
    assert (result.fenced, result.ended) == ([late], [two])


def test_of_two_attempts_at_a_task_in_one_batch_only_the_lost_one_is_fenced(
    harness: MetadataHarness,
) -> None:
    key = harness.accepted()
    [first] = harness.claim(key)
    harness.finish(outcome(first, S.PENDING))
    [second] = harness.claim(key)
    late = outcome(first, S.COMPLETED)
    result = harness.finish(late, outcome(second, S.COMPLETED))
    assert (result.fenced, result.ended, result.locked) == ([late], [key], [])


def test_a_retry_is_scheduled_and_claimable_only_when_due(harness: MetadataHarness) -> None:
    key = harness.accepted()
    result = harness.run(key, S.RETRYING, retry_delay_seconds=5.0)
    [entry] = result.to_send
    assert entry.message.delay_seconds == pytest.approx(5, abs=0.1)
    task = harness.task(key)
    assert (task.status, task.failure_count) == ("retrying", 1)
    assert task.error is not None
    assert harness.claim(key) == []
    harness.advance(6)
    [again] = harness.claim(key)
    assert (again.attempt, again.failure_count) == (2, 1)
    harness.finish(outcome(again, S.COMPLETED))
    assert harness.task(key).error is None
    assert harness.history(key) == ["submitted", "started", "retrying", "started", "completed"]


def test_a_retry_beyond_the_queues_delay_waits_in_the_outbox(harness: MetadataHarness) -> None:
    key = harness.accepted()
    assert harness.run(key, S.RETRYING, retry_delay_seconds=2_000.0).to_send == []
    assert harness.count("outbox") == 1


def test_a_cancellation_that_came_meanwhile_wins_over_a_retry(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [task] = harness.claim(key)
    harness.tasks.cancel([key])
    result = harness.finish(outcome(task, S.RETRYING, retry_delay_seconds=1.0))
    assert (result.ended, result.to_send) == ([key], [])
    assert harness.status(key) == "cancelled"


def test_a_result_that_came_before_the_cancellation_was_seen_is_kept(
    harness: MetadataHarness,
) -> None:
    key = harness.accepted()
    [task] = harness.claim(key)
    harness.tasks.cancel([key])
    harness.finish(outcome(task, S.COMPLETED))
    assert harness.status(key) == "completed"


def test_the_last_dependency_releases_the_task(harness: MetadataHarness) -> None:
    one, two = harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(one.task_id, two.task_id), priority=0)
    assert harness.status(child) == "blocked"
    assert harness.run(one, S.COMPLETED).to_send == []
    [entry] = harness.run(two, S.COMPLETED).to_send
    assert (entry.message.task_id, entry.message.priority) == (child.task_id, 0)
    assert harness.status(child) == "pending"
    assert harness.history(child) == ["submitted", "released"]


def test_dependencies_that_end_in_one_batch_release_the_task_once(harness: MetadataHarness) -> None:
    one, two = harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(one.task_id, two.task_id))
    result = harness.finish(*(outcome(task, S.COMPLETED) for task in harness.claim(one, two)))
    assert [entry.message.task_id for entry in result.to_send] == [child.task_id]


def test_dependencies_that_end_at_the_same_time_release_the_task_once(
    harness: MetadataHarness,
) -> None:
    for _ in range(15):
        parents = [harness.accepted() for _ in range(4)]
        child = harness.accepted(depends_on=tuple(parent.task_id for parent in parents))
        claimed = harness.claim(*parents)
        barrier = threading.Barrier(4)
        sent: list[str] = []

        def finish(
            index: int,
            barrier: threading.Barrier = barrier,
            sent: list[str] = sent,
            claimed: list = claimed,
        ) -> None:  # type: ignore[type-arg]
            barrier.wait()
            result = harness.finish(outcome(claimed[index], S.COMPLETED))
            sent.extend(entry.message.task_id for entry in result.to_send)

        threads = [threading.Thread(target=finish, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sent == [child.task_id]
        assert harness.status(child) == "pending"


@pytest.mark.parametrize("end", [S.FAILED, S.CANCELLED])
def test_a_failure_fails_all_that_depends_on_it(harness: MetadataHarness, end: TaskStatus) -> None:
    root = harness.accepted()
    child = harness.accepted(depends_on=(root.task_id,))
    grandchild = harness.accepted(depends_on=(child.task_id,))
    result = harness.run(root, end)
    assert set(result.ended) == {root, child, grandchild}
    for key, parent in ((child, root), (grandchild, child)):
        task = harness.task(key)
        assert task.status == "failed"
        assert task.error is not None
        assert parent.task_id in task.error.message


def test_a_heartbeat_extends_the_lease_and_writes_progress(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [task] = harness.claim(key)
    harness.advance(20)
    result = harness.execution.heartbeat(
        [Lease(*key, task.lease_token, 40.0, "half way")], lease_seconds=30
    )
    assert (result.cancel_requested, result.lost) == ([], [])
    harness.advance(20)
    assert harness.execution.lost(dead_workers=(), limit=10) == []
    seen = harness.task(key)
    assert (seen.progress, seen.progress_message) == (40.0, "half way")
    assert harness.history(key) == ["submitted", "started", "progress"]
    harness.execution.heartbeat([Lease(*key, task.lease_token)], lease_seconds=30)
    assert harness.task(key).progress == 40.0
    harness.advance(31)
    [lost] = harness.execution.lost(dead_workers=(), limit=10)
    assert (lost.task_id, lost.lease_token, lost.attempt) == (key.task_id, task.lease_token, 1)


def test_a_heartbeat_brings_back_cancellations_and_lost_leases(harness: MetadataHarness) -> None:
    one, two = harness.accepted(), harness.accepted()
    [first] = harness.claim(one)
    [second] = harness.claim(two)
    harness.tasks.cancel([one])
    harness.finish(outcome(second, S.PENDING))
    result = harness.execution.heartbeat(
        [Lease(*one, first.lease_token), Lease(*two, second.lease_token)], lease_seconds=30
    )
    assert (result.cancel_requested, result.lost) == ([one], [two])


def test_tasks_of_a_dead_worker_are_lost_before_their_lease_ends(harness: MetadataHarness) -> None:
    one, two = harness.accepted(), harness.accepted()
    harness.claim(one, worker_id="dead")
    harness.claim(two, worker_id="alive")
    assert [t.task_id for t in harness.execution.lost(dead_workers=["dead"], limit=10)] == [
        one.task_id
    ]


def test_a_task_past_its_deadline_is_not_started_but_expires(harness: MetadataHarness) -> None:
    key = harness.accepted(expires_in_seconds=10.0)
    child = harness.accepted(depends_on=(key.task_id,))
    other = harness.accepted(expires_in_seconds=100.0)
    harness.advance(11)
    assert harness.claim(key) == []
    assert harness.execution.expire(limit=10) == ([key], [child])
    assert (harness.status(key), harness.status(child), harness.status(other)) == (
        "expired",
        "failed",
        "pending",
    )
    assert harness.history(key) == ["submitted", "expired"]
    assert harness.execution.expire(limit=10) == ([], [])


def test_a_running_task_does_not_expire(harness: MetadataHarness) -> None:
    key = harness.accepted(expires_in_seconds=10.0)
    harness.claim(key)
    harness.advance(11)
    assert harness.execution.expire(limit=10) == ([], [])


def test_a_released_attempt_uses_nothing_up(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [task] = harness.claim(key)
    result = harness.finish(outcome(task, S.PENDING, attempt=task.attempt - 1))
    assert [entry.message.task_id for entry in result.to_send] == [key.task_id]
    [again] = harness.claim(key)
    assert (again.attempt, again.failure_count, again.crash_count) == (1, 0, 0)


def test_a_crash_is_counted_apart_from_failures(harness: MetadataHarness) -> None:
    key = harness.accepted()
    harness.run(key, S.PENDING, counts_crash=True)
    task = harness.task(key)
    assert (task.crash_count, task.failure_count) == (1, 0)
    assert harness.history(key) == ["submitted", "started", "recovered"]
