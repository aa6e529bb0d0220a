"""InspectionStore: finds what should not be, and repairs it."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.dependents import Dependents
from taskflow.adapters.metadata.inspection import SqlInspection
from taskflow.adapters.metadata.journal import Journal
from taskflow.adapters.metadata.migrate import version_table
from taskflow.core.errors import StoreVersionError
from taskflow.core.task import TaskStatus
from taskflow.ports.inspection import InspectionStore, PayloadUse
from taskflow.ports.metadata import Outcome, TaskKey
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness


@pytest.fixture
def inspection(harness: MetadataHarness) -> InspectionStore:
    journal = Journal(harness.database, harness.new_id)
    return SqlInspection(harness.database, journal, Dependents(harness.database, journal))


def damage_task(harness: MetadataHarness, task_id: str, **values: Any) -> None:
    t = schema.tasks
    with harness.database.engine.begin() as connection:
        connection.execute(t.update().where(t.c.id == task_id).values(**values))


def finish(harness: MetadataHarness, task_id: str, status: TaskStatus, **values: Any) -> None:
    key = TaskKey("default", task_id)
    [task] = harness.execution.claim([key], worker_id="w", lease_seconds=30).tasks
    outcome = Outcome("default", task_id, task.lease_token, status, 1, 1.0, **values)
    harness.execution.finish([outcome], max_queue_delay_seconds=MAX_DELAY, outbox=False)


def test_a_sound_store_gives_no_finding(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    first = harness.new()
    harness.insert(first, harness.new(depends_on=(first.id,)))

    assert inspection.damage() == []
    assert inspection.schema_revision()
    assert inspection.task_count() == 2
    assert inspection.wrongly_blocked(limit=10) == []
    assert [key for keys in inspection.payload_keys(batch=10) for key in keys] == []


def test_an_empty_store_has_nothing(harness: MetadataHarness, inspection: InspectionStore) -> None:
    assert inspection.task_count() == 0
    assert inspection.newest_event_at() is None
    assert inspection.unannounced(seconds=0, limit=10) == []
    assert inspection.payload_uses([TaskKey("default", harness.new_id())]) == {}
    assert inspection.unblock([]) == 0


def test_another_schema_is_refused(harness: MetadataHarness, inspection: InspectionStore) -> None:
    with harness.database.engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE {version_table(harness.database)} SET version_num = '9999'"
        )

    with pytest.raises(StoreVersionError, match="9999"):
        inspection.schema_revision()


def test_the_newest_event_tells_the_time(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    harness.insert(harness.new())
    harness.advance(60)
    before = harness.database.now()
    harness.insert(harness.new())

    newest = inspection.newest_event_at()

    assert newest is not None
    assert before <= newest <= harness.database.now()


def test_due_tasks_without_an_outbox_row_are_unannounced(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    quiet, later, loud = harness.new(), harness.new(delay_seconds=3_600), harness.new()
    harness.insert(quiet, later)
    harness.insert(loud, outbox=True)
    assert inspection.unannounced(seconds=300, limit=10) == []

    harness.advance(301)
    [message] = inspection.unannounced(seconds=300, limit=10)

    assert (message.task_id, message.tenant_id, message.task) == (quiet.id, "default", "noop")
    assert len(inspection.unannounced(seconds=0, limit=1)) == 1


def test_a_task_that_waits_for_nothing_is_released(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    parent = harness.new()
    child = harness.new(depends_on=(parent.id,))
    harness.insert(parent, child)
    finish(harness, parent.id, TaskStatus.COMPLETED)
    damage_task(harness, child.id, status="blocked", waits_for=1)

    [key] = inspection.wrongly_blocked(limit=10)
    assert key == TaskKey("default", child.id)
    assert inspection.unblock([key]) == 1

    [stored] = harness.tasks.get("default", [child.id])
    assert stored.task.status is TaskStatus.PENDING
    assert [entry.message.task_id for entry in _outbox(harness)] == [child.id]
    assert inspection.unblock([key]) == 0  # once more changes nothing


def test_a_task_whose_dependency_failed_fails_too(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    parent = harness.new()
    child = harness.new(depends_on=(parent.id,))
    grandchild = harness.new(depends_on=(child.id,))
    harness.insert(parent, child, grandchild)
    harness.tasks.cancel([TaskKey("default", parent.id)])
    for task in (child, grandchild):
        damage_task(
            harness, task.id, status="blocked", waits_for=1, finished_at=None, fingerprint=None
        )

    assert inspection.unblock(inspection.wrongly_blocked(limit=10)) == 1

    for task in (child, grandchild):
        [stored] = harness.tasks.get("default", [task.id])
        assert stored.task.status is TaskStatus.FAILED
        assert stored.task.error is not None
        assert stored.task.error.type == "DependencyFailedError"


@pytest.mark.parametrize("counted", [0, 1, 5])
def test_a_wrong_count_is_put_right(
    harness: MetadataHarness, inspection: InspectionStore, counted: int
) -> None:
    parents = [harness.new(), harness.new()]
    child = harness.new(depends_on=tuple(parent.id for parent in parents))
    harness.insert(*parents, child)
    damage_task(harness, child.id, waits_for=counted)

    assert inspection.unblock(inspection.wrongly_blocked(limit=10)) == 1
    assert inspection.wrongly_blocked(limit=10) == []

    for parent in parents:
        [stored] = harness.tasks.get("default", [child.id])
        assert stored.task.status is TaskStatus.BLOCKED
        finish(harness, parent.id, TaskStatus.COMPLETED)
    [stored] = harness.tasks.get("default", [child.id])
    assert stored.task.status is TaskStatus.PENDING


def test_payload_keys_and_their_tasks_are_known(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    small, large = harness.new(), harness.new(arguments=None, input_key="default/input/1")
    harness.insert(small, large)
    finish(harness, small.id, TaskStatus.COMPLETED, result_key="default/result/2")

    keys = [key for keys in inspection.payload_keys(batch=1) for key in keys]
    uses = inspection.payload_uses([TaskKey("default", small.id), TaskKey("default", large.id)])

    assert sorted(keys) == ["default/input/1", "default/result/2"]
    assert uses == {
        TaskKey("default", small.id): PayloadUse(True, frozenset({"default/result/2"})),
        TaskKey("default", large.id): PayloadUse(False, frozenset({"default/input/1"})),
    }


def test_payload_keys_are_read_page_by_page_as_they_are_then(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    new = [harness.new(arguments=None, input_key=f"default/input/{n}") for n in range(5)]
    harness.insert(*new)
    pages = inspection.payload_keys(batch=2)
    first = next(pages)
    [last, *others] = [task for task in reversed(new) if task.input_key not in first]

    # Would be invisible if the first page were a part of one long read.
    finish(harness, last.id, TaskStatus.COMPLETED)
    assert harness.retention.purge(finished_before=2**60, limit=10)[0] == 1

    rest = [key for page in pages for key in page]
    assert sorted(rest) == sorted(str(task.input_key) for task in others)
    assert len(first) == 2


def _outbox(harness: MetadataHarness) -> list[Any]:
    return harness.outbox.lease(lookahead_seconds=0, lease_seconds=30, limit=10)


def test_tasks_that_are_not_final_are_counted_by_handler(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    assert inspection.unfinished_by_task() == {}
    done = harness.accepted(task="report")
    harness.accepted(task="report")
    harness.accepted(task="email", tenant_id="acme")
    harness.claim(harness.accepted(task="email"))
    finish(harness, done.task_id, TaskStatus.COMPLETED)
    assert inspection.unfinished_by_task() == {"report": 1, "email": 2}


def test_what_was_forgotten_tells_how_long_it_may_take(
    harness: MetadataHarness, inspection: InspectionStore
) -> None:
    key = harness.accepted(timeout_seconds=1_800.0)
    harness.advance(600)
    [forgotten] = inspection.unannounced(seconds=300, limit=10)
    assert (forgotten.task_id, forgotten.timeout_seconds) == (key.task_id, 1_800.0)
