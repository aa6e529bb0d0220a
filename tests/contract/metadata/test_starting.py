"""Tasks that are running as soon as they are stored, because a worker claims them in the same transaction."""

from __future__ import annotations

from taskflow.core.submission import Accepted, NewTask
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import InsertResult, StartNow, TaskKey
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness, outcome


def insert(
    harness: MetadataHarness, *tasks: NewTask, start: int = 100, **limits: int
) -> InsertResult:
    """Start the first ``start`` of them."""
    keys = [TaskKey(task.tenant_id, task.id) for task in tasks[:start]]
    return harness.submissions.insert(
        tasks,
        max_waiting=limits.get("max_waiting", 0),
        max_queue_delay_seconds=MAX_DELAY,
        outbox=False,
        start=StartNow(keys, "w1", 30.0),
    )


def test_a_task_is_running_and_its_history_is_whole(harness: MetadataHarness) -> None:
    new = harness.new(name="n")
    result = insert(harness, new)
    key = TaskKey("default", new.id)
    assert [type(answer) for answer in result.answers] == [Accepted]
    assert result.to_send == []
    [claimed] = result.started
    assert (claimed.task_id, claimed.attempt, claimed.arguments) == (new.id, 1, new.arguments)
    assert harness.status(key) == "running"
    assert harness.history(key) == ["submitted", "started"]
    assert harness.claim(key) == []
    harness.finish(outcome(claimed, TaskStatus.COMPLETED))
    assert harness.history(key) == ["submitted", "started", "completed"]


def test_only_what_is_named_starts(harness: MetadataHarness) -> None:
    tasks = [harness.new() for _ in range(3)]
    result = insert(harness, *tasks, start=1)
    assert [task.task_id for task in result.started] == [tasks[0].id]
    assert [entry.message.task_id for entry in result.to_send] == [task.id for task in tasks[1:]]
    assert [harness.status(TaskKey("default", task.id)) for task in tasks] == [
        "running",
        "pending",
        "pending",
    ]


def test_what_is_not_due_or_waits_for_others_does_not_start(harness: MetadataHarness) -> None:
    parent = harness.accepted()
    later, blocked = harness.new(delay_seconds=60.0), harness.new(depends_on=(parent.task_id,))
    result = insert(harness, later, blocked)
    assert result.started == []
    assert [entry.message.task_id for entry in result.to_send] == [later.id]
    assert harness.status(TaskKey("default", later.id)) == "scheduled"
    assert harness.status(TaskKey("default", blocked.id)) == "blocked"


def test_what_has_expired_when_it_is_stored_does_not_start(harness: MetadataHarness) -> None:
    new = harness.new(expires_at=1)
    assert insert(harness, new).started == []
    assert harness.status(TaskKey("default", new.id)) == "pending"


def test_replays_and_refusals_start_nothing(harness: MetadataHarness) -> None:
    first = harness.new(idempotency_key="k", request_hash="h")
    assert len(insert(harness, first).started) == 1
    again = harness.new(idempotency_key="k", request_hash="h")
    result = insert(harness, again)
    assert (result.started, result.to_send) == ([], [])
    harness.accepted()
    assert insert(harness, harness.new(), max_waiting=1).started == []


def test_the_lease_is_the_workers(harness: MetadataHarness) -> None:
    new = harness.new()
    insert(harness, new)
    assert harness.execution.lost(dead_workers=[], limit=10) == []
    assert [lost.task_id for lost in harness.execution.lost(dead_workers=["w1"], limit=10)] == [
        new.id
    ]
    harness.advance(31)
    assert [lost.task_id for lost in harness.execution.lost(dead_workers=[], limit=10)] == [new.id]


def test_it_is_as_if_it_had_been_stored_and_then_claimed(harness: MetadataHarness) -> None:
    one, other = harness.new(name="n", tags=("a",)), harness.new(name="n", tags=("a",))
    [started] = insert(harness, one).started
    harness.insert(other)
    [claimed] = harness.claim(TaskKey("default", other.id))
    own = {"task_id": "", "created_at": 0, "run_at": 0, "started_at": 0, "lease_token": 0}
    assert started._replace(**own) == claimed._replace(**own)
    left_out = {"task_id", "created_at", "run_at", "started_at", "lease_until"}
    tasks = [harness.task(TaskKey("default", task.id)) for task in (one, other)]
    assert tasks[0].model_dump(exclude=left_out) == tasks[1].model_dump(exclude=left_out)
