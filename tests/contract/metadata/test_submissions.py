"""SubmissionStore."""

from __future__ import annotations

import threading

from taskflow.core.errors import IdempotencyConflictError, QueueFullError, UnknownDependencyError
from taskflow.core.submission import Accepted
from taskflow.core.task import TaskStatus
from tests.contract.metadata.conftest import MetadataHarness


def test_a_task_due_now_is_pending_and_its_message_is_returned(harness: MetadataHarness) -> None:
    new = harness.new(priority=1)
    result = harness.insert(new)
    [answer] = result.answers
    assert isinstance(answer, Accepted)
    assert (answer.task_id, answer.status, answer.replayed) == (new.id, "pending", False)
    [entry] = result.to_send
    assert (entry.message.task_id, entry.message.priority, entry.message.delay_seconds) == (
        new.id,
        1,
        0.0,
    )
    assert entry.entry_id is None
    assert harness.count("outbox") == 0


def test_everything_submitted_is_read_back(harness: MetadataHarness) -> None:
    key = harness.accepted(
        name="label", tags=("b", "a", "a"), metadata='{"k":[1]}', request_id="r1", idempotency_key="i",
        request_hash="h", max_retries=7, timeout_seconds=1.5, expires_in_seconds=60.0,
    )  # fmt: skip
    task = harness.task(key)
    assert (task.name, task.tags, task.metadata, task.request_id) == (
        "label",
        ["a", "b"],
        {"k": [1]},
        "r1",
    )
    assert (task.idempotency_key, task.max_retries, task.timeout) == ("i", 7, 1.5)
    assert task.expires_at is not None
    assert (task.expires_at - task.created_at).total_seconds() == 60
    assert (task.args, task.kwargs, task.attempt, task.result, task.error) == (
        [],
        {"x": 1},
        0,
        None,
        None,
    )
    assert harness.history(key) == ["submitted"]


def test_a_far_delay_waits_in_the_outbox_and_a_near_one_in_the_queue(
    harness: MetadataHarness,
) -> None:
    result = harness.insert(harness.new(delay_seconds=960.0), harness.new(delay_seconds=60.0))
    assert [a.status for a in result.answers if isinstance(a, Accepted)] == [
        "scheduled",
        "scheduled",
    ]
    [near] = result.to_send
    assert 59 < near.message.delay_seconds <= 60
    assert harness.count("outbox") == 1


def test_with_a_durable_queue_every_message_has_an_outbox_row(harness: MetadataHarness) -> None:
    result = harness.insert(harness.new(), harness.new(delay_seconds=960.0), outbox=True)
    assert harness.count("outbox") == 2
    [entry] = result.to_send
    assert entry.entry_id is not None
    harness.outbox.delete([entry.entry_id])
    assert harness.count("outbox") == 1


def test_the_same_key_and_request_is_answered_with_the_first_task(harness: MetadataHarness) -> None:
    first = harness.accepted(idempotency_key="k", request_hash="same")
    result = harness.insert(harness.new(idempotency_key="k", request_hash="same"))
    [answer] = result.answers
    assert isinstance(answer, Accepted)
    assert (answer.task_id, answer.replayed) == (first.task_id, True)
    assert result.to_send == []
    assert harness.count("tasks") == 1


def test_the_same_key_with_another_request_is_refused(harness: MetadataHarness) -> None:
    harness.accepted(idempotency_key="k", request_hash="one")
    [answer] = harness.insert(harness.new(idempotency_key="k", request_hash="two")).answers
    assert isinstance(answer, IdempotencyConflictError)
    assert harness.count("tasks") == 1


def test_keys_of_different_tenants_do_not_meet(harness: MetadataHarness) -> None:
    harness.accepted(idempotency_key="k", request_hash="one")
    other = harness.accepted(tenant_id="other", idempotency_key="k", request_hash="two")
    assert harness.task(other).tenant_id == "other"
    assert harness.tasks.get("default", [other.task_id]) == []


def test_the_same_key_twice_in_one_call_makes_one_task(harness: MetadataHarness) -> None:
    same = {"idempotency_key": "k", "request_hash": "h"}
    result = harness.insert(
        harness.new(**same), harness.new(**same), harness.new(idempotency_key="k", request_hash="x")
    )
    first, second, third = result.answers
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert second == first._replace(replayed=True)
    assert isinstance(third, IdempotencyConflictError)
    assert harness.count("tasks") == 1


def test_concurrent_submissions_of_one_key_make_one_task(harness: MetadataHarness) -> None:
    for round_ in range(10):
        barrier = threading.Barrier(4)
        answers: list[Accepted] = []

        def submit(
            key: str = f"k{round_}",
            barrier: threading.Barrier = barrier,
            answers: list[Accepted] = answers,
        ) -> None:
            new = harness.new(idempotency_key=key, request_hash="h")
            barrier.wait()
            [answer] = harness.insert(new).answers
            assert isinstance(answer, Accepted)
            answers.append(answer)

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({answer.task_id for answer in answers}) == 1
        assert sorted(answer.replayed for answer in answers) == [False, True, True, True]
    assert harness.count("tasks") == 10


def test_a_full_queue_refuses_the_surplus_and_keeps_what_it_has(harness: MetadataHarness) -> None:
    result = harness.insert(*(harness.new() for _ in range(5)), max_waiting=3)
    assert [isinstance(answer, Accepted) for answer in result.answers] == [
        True,
        True,
        True,
        False,
        False,
    ]
    refusal = result.answers[-1]
    assert isinstance(refusal, QueueFullError)
    assert refusal.retry_after_seconds
    assert harness.count("tasks") == 3


def test_running_tasks_make_room_in_a_full_queue(harness: MetadataHarness) -> None:
    key = harness.accepted()
    [refused] = harness.insert(harness.new(), max_waiting=1).answers
    assert isinstance(refused, QueueFullError)
    harness.claim(key)
    [accepted] = harness.insert(harness.new(), max_waiting=1).answers
    assert isinstance(accepted, Accepted)


def test_a_replay_is_answered_even_when_the_queue_is_full(harness: MetadataHarness) -> None:
    harness.accepted(idempotency_key="k", request_hash="h")
    [answer] = harness.insert(
        harness.new(idempotency_key="k", request_hash="h"), max_waiting=1
    ).answers
    assert isinstance(answer, Accepted)
    assert answer.replayed


def test_a_refused_submission_does_not_take_its_key(harness: MetadataHarness) -> None:
    harness.accepted()
    [refused] = harness.insert(
        harness.new(idempotency_key="k", request_hash="h"), max_waiting=1
    ).answers
    assert isinstance(refused, QueueFullError)
    [answer] = harness.insert(harness.new(idempotency_key="k", request_hash="h")).answers
    assert isinstance(answer, Accepted)
    assert not answer.replayed


def test_an_unknown_dependency_refuses_only_its_own_task(harness: MetadataHarness) -> None:
    missing = harness.new_id()
    result = harness.insert(harness.new(depends_on=(missing,)), harness.new())
    assert isinstance(result.answers[0], UnknownDependencyError)
    assert isinstance(result.answers[1], Accepted)
    assert harness.count("tasks") == 1


def test_another_tenants_task_is_an_unknown_dependency(harness: MetadataHarness) -> None:
    foreign = harness.accepted(tenant_id="other")
    [answer] = harness.insert(harness.new(depends_on=(foreign.task_id,))).answers
    assert isinstance(answer, UnknownDependencyError)


def test_a_dependency_that_has_completed_blocks_nothing(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    harness.run(parent, TaskStatus.COMPLETED)
    child = harness.accepted(depends_on=(parent.task_id,))
    assert harness.status(child) == "pending"
    assert harness.task(child).depends_on == [parent.task_id]


def test_a_dependency_that_has_failed_fails_the_new_task_at_once(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    harness.run(parent, TaskStatus.FAILED)
    new = harness.new(depends_on=(parent.task_id,))
    result = harness.insert(new)
    assert [key.task_id for key in result.ended] == [new.id]
    assert result.to_send == []
    task = harness.task(result.ended[0])
    assert task.status == "failed"
    assert task.error is not None
    assert task.error.type == "DependencyFailedError"
    assert harness.history(result.ended[0]) == ["submitted", "failed"]


def test_tasks_of_one_call_may_depend_on_each_other(harness: MetadataHarness) -> None:
    parent = harness.new()
    child = harness.new(depends_on=(parent.id,))
    result = harness.insert(parent, child)
    assert [a.status for a in result.answers if isinstance(a, Accepted)] == ["pending", "blocked"]
    assert [entry.message.task_id for entry in result.to_send] == [parent.id]
