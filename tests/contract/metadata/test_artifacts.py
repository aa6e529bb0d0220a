"""Which artifacts a task has: written by the attempt that owns it, gone with the task."""

from __future__ import annotations

from typing import Any

from taskflow.adapters.metadata.artifacts import SqlArtifacts
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.inspection import SqlInspection
from taskflow.adapters.metadata.journal import Journal
from taskflow.core.errors import InvalidRequestError, LeaseLostError
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import ClaimedTask, NewArtifact, StoredArtifact, TaskKey
from tests.contract.metadata.conftest import MetadataHarness, outcome


def new(task: ClaimedTask, name: str, **changes: Any) -> NewArtifact:
    key = f"{task.tenant_id}/artifact/{task.task_id}.{name}"
    base = NewArtifact(
        task.tenant_id, task.task_id, task.lease_token, task.attempt, name, key, 10, "text/csv"
    )
    return base._replace(**changes)


def claimed(harness: MetadataHarness, **changes: Any) -> ClaimedTask:
    [task] = harness.claim(harness.accepted(**changes))
    return task


def key_of(task: ClaimedTask) -> TaskKey:
    return TaskKey(task.tenant_id, task.task_id)


def test_artifacts_are_listed_by_name_as_they_were_added(harness: MetadataHarness) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    assert artifacts.add([new(task, "b"), new(task, "a", size_bytes=7)], most=9) == [None, None]
    first, second = artifacts.list(key_of(task)) or ()
    key = f"default/artifact/{task.task_id}.a"
    assert first == StoredArtifact("a", key, 7, "text/csv", 1, first.created_at)
    assert second.name == "b"
    assert 0 <= first.created_at - task.started_at < 60_000_000


def test_a_task_without_artifacts_has_none_and_an_unknown_one_no_list(
    harness: MetadataHarness,
) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    assert artifacts.list(key_of(task)) == []
    assert artifacts.list(TaskKey("default", harness.new_id())) is None
    assert artifacts.list(TaskKey("rival", task.task_id)) is None


def test_the_last_one_under_a_name_counts_and_names_what_it_replaced(
    harness: MetadataHarness,
) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    artifacts.add([new(task, "a")], most=1)
    again = new(task, "a", artifact_key="default/artifact/other", content_type="text/html")
    assert artifacts.add([again], most=1) == [f"default/artifact/{task.task_id}.a"]
    [only] = artifacts.list(key_of(task)) or ()
    assert (only.artifact_key, only.content_type) == ("default/artifact/other", "text/html")


def test_one_more_than_allowed_is_refused_and_the_rest_written(harness: MetadataHarness) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    answers = artifacts.add([new(task, name) for name in "abca"], most=2)
    assert [type(answer) for answer in answers] == [type(None), type(None), InvalidRequestError, str]  # fmt: skip
    assert "TASKFLOW_MAX_ARTIFACTS" in str(answers[2])
    assert [stored.name for stored in artifacts.list(key_of(task)) or ()] == ["a", "b"]


def test_only_the_attempt_that_holds_the_lease_can_add(harness: MetadataHarness) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    [wrong] = artifacts.add([new(task, "a", lease_token=task.lease_token + 1)], most=9)
    assert isinstance(wrong, LeaseLostError)
    [rival] = artifacts.add([new(task, "a", tenant_id="rival")], most=9)
    assert isinstance(rival, LeaseLostError)
    harness.finish(outcome(task, TaskStatus.COMPLETED))
    [late] = artifacts.add([new(task, "a")], most=9)
    assert isinstance(late, LeaseLostError)
    assert artifacts.list(key_of(task)) == []


def test_artifacts_stay_through_failures_and_new_runs_and_go_with_the_task(
    harness: MetadataHarness,
) -> None:
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    artifacts.add([new(task, "a")], most=9)
    harness.finish(outcome(task, TaskStatus.FAILED))
    harness.tasks.redrive(
        [key_of(task)], delay_seconds=[0], max_queue_delay_seconds=900, outbox=False
    )
    assert [stored.name for stored in artifacts.list(key_of(task)) or ()] == ["a"]
    [again] = harness.claim(key_of(task))
    artifacts.add([new(again, "b")], most=9)
    harness.finish(outcome(again, TaskStatus.COMPLETED))
    harness.advance(10)
    count, payloads = harness.retention.purge(finished_before=harness.database.now(), limit=10)
    assert count == 1
    assert sorted(payloads) == [f"default/artifact/{task.task_id}.{name}" for name in "ab"]
    assert harness.count("task_artifacts") == 0


def test_the_doctor_knows_their_payloads(harness: MetadataHarness) -> None:
    journal = Journal(harness.database, harness.new_id)
    inspection = SqlInspection(harness.database, journal, Dependents(harness.database, journal))
    artifacts, task = SqlArtifacts(harness.database), claimed(harness)
    artifacts.add([new(task, "a"), new(task, "b")], most=9)
    keys = {f"default/artifact/{task.task_id}.{name}" for name in "ab"}
    assert {key for page in inspection.payload_keys(batch=10) for key in page} == keys
    assert inspection.payload_uses([key_of(task)])[key_of(task)].keys == keys
