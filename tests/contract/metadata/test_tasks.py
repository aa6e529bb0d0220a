"""TaskStore, outbox, workers, insights: what people see and do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from taskflow.core.events import EventType as E
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import TaskFilter, TaskKey, WorkerRecord
from taskflow.ports.queue import Message
from tests.contract.metadata.conftest import MAX_DELAY, MetadataHarness, outcome

S = TaskStatus
BY_HAND = {E.CANCELLED, E.CANCEL_REQUESTED, E.REDRIVEN, E.DISCARDED}


EVERYTHING = TaskFilter()


def ids(harness: MetadataHarness, where: TaskFilter = EVERYTHING, **page: object) -> list[str]:
    arguments = {"limit": 100, "before": None, **page}
    return [s.task.task_id for s in harness.tasks.list("default", where, **arguments)]  # type: ignore[arg-type]


def test_a_list_is_newest_first_and_pages_by_id(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(5)]
    newest_first = [key.task_id for key in reversed(keys)]
    assert ids(harness) == newest_first
    assert ids(harness, limit=2) == newest_first[:2]
    assert ids(harness, limit=2, before=newest_first[1]) == newest_first[2:4]


def test_filters_choose_what_they_say(harness: MetadataHarness) -> None:
    pending = harness.accepted(name="Invoice 7", priority=0, tags=("x",)).task_id
    harness.advance(10)
    split = harness.task(harness.accepted(task="other_100%", tags=("y",)))
    failed = harness.accepted()
    harness.run(failed, S.FAILED)
    cancelled = harness.accepted()
    harness.tasks.cancel([cancelled])
    done = harness.accepted()
    harness.run(done, S.COMPLETED)
    assert ids(harness, TaskFilter(statuses=frozenset({S.FAILED}))) == [failed.task_id]
    assert ids(harness, TaskFilter(statuses=frozenset({S.CANCELLED, S.FAILED}))) == [
        cancelled.task_id,
        failed.task_id,
    ]
    assert ids(harness, TaskFilter(statuses=frozenset({S.COMPLETED, S.FAILED}))) == [
        done.task_id,
        failed.task_id,
    ]
    assert ids(harness, TaskFilter(statuses=frozenset({S.PENDING}))) == [split.task_id, pending]
    assert ids(harness, TaskFilter(task="other_100%")) == [split.task_id]
    assert ids(harness, TaskFilter(priority=0)) == [pending]
    assert ids(harness, TaskFilter(tag="x")) == [pending]
    assert ids(harness, TaskFilter(q="invoice")) == [pending]
    assert ids(harness, TaskFilter(q="100%")) == [split.task_id]
    assert ids(harness, TaskFilter(q="r_1")) == [split.task_id]
    assert ids(harness, TaskFilter(q=pending[:30]))[-1] == pending
    moment = int(split.created_at.timestamp() * 1_000_000)
    assert pending not in ids(harness, TaskFilter(created_after=moment))
    assert ids(harness, TaskFilter(created_before=moment)) == [pending]


@pytest.mark.parametrize("q", ["Übersicht", "Ü", "[nr. 7_", "[Nr. 7_Ö"])
def test_what_is_looked_for_may_have_any_letters(harness: MetadataHarness, q: str) -> None:
    named = harness.accepted(name="Die Übersicht [NR. 7_Ö").task_id
    harness.accepted(task="Obersicht", name=None)
    harness.accepted(name="[Nr. 7xÖ")
    assert ids(harness, TaskFilter(q=q)) == [named]
    if harness.database.is_sqlite:  # PostgreSQL knows the case of the letters that its locale knows
        assert ids(harness, TaskFilter(q=q.swapcase())) == [named]


def test_tenants_do_not_see_each_other(harness: MetadataHarness) -> None:
    mine, theirs = harness.accepted(), harness.accepted(tenant_id="other")
    assert ids(harness) == [mine.task_id]
    assert harness.tasks.get("default", [theirs.task_id]) == []
    assert harness.tasks.events("default", theirs.task_id, after=0, limit=10) == []
    crossed = TaskKey("default", theirs.task_id)
    assert harness.tasks.cancel([crossed]).before[crossed] is None
    assert harness.status(theirs) == "pending"


def test_cancelling_ends_what_waits_and_marks_what_runs(harness: MetadataHarness) -> None:
    waiting, running, done = harness.accepted(), harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(waiting.task_id,))
    harness.run(done, S.COMPLETED)
    harness.claim(running)
    result = harness.tasks.cancel([waiting, running, done])
    assert result.before == {waiting: S.PENDING, running: S.RUNNING, done: S.COMPLETED}
    assert set(result.ended) == {waiting, child}
    assert (harness.status(waiting), harness.status(running), harness.status(done)) == (
        "cancelled",
        "running",
        "completed",
    )
    assert harness.task(running).cancel_requested
    assert harness.history(running)[-1] == "cancel_requested"


@pytest.mark.parametrize("end", [S.COMPLETED, S.FAILED, S.CANCELLED])
def test_a_final_task_runs_anew_with_all_its_retries(
    harness: MetadataHarness, end: TaskStatus
) -> None:
    key = harness.accepted()
    harness.run(key, end)
    result = harness.tasks.redrive(
        [key], delay_seconds=[0.0], max_queue_delay_seconds=900, outbox=False
    )
    assert result.before == {key: end}
    assert [entry.message.task_id for entry in result.to_send] == [key.task_id]
    task = harness.task(key)
    assert (task.status, task.attempt, task.failure_count, task.result, task.error) == (
        "pending",
        0,
        0,
        None,
        None,
    )
    assert (task.started_at, task.worker_id, task.duration_ms) == (None, None, None)
    harness.run(key, S.COMPLETED)
    assert harness.status(key) == "completed"
    assert harness.insights.counts("default").by_status["completed"] == 1


def test_a_waiting_or_running_task_cannot_be_redriven(harness: MetadataHarness) -> None:
    key = harness.accepted()
    result = harness.tasks.redrive(
        [key], delay_seconds=[0.0], max_queue_delay_seconds=900, outbox=False
    )
    assert (result.before, result.to_send) == ({key: S.PENDING}, [])


def test_redriving_a_failed_root_revives_what_failed_with_it(harness: MetadataHarness) -> None:
    root, other = harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(root.task_id, other.task_id))
    grandchild = harness.accepted(depends_on=(child.task_id,))
    harness.run(root, S.FAILED)
    harness.run(other, S.COMPLETED)
    assert harness.status(grandchild) == "failed"
    harness.tasks.redrive([root], delay_seconds=[0.0], max_queue_delay_seconds=900, outbox=False)
    assert (harness.status(child), harness.status(grandchild)) == ("blocked", "blocked")
    assert harness.task(child).error is None
    [entry] = harness.run(root, S.COMPLETED).to_send
    assert entry.message.task_id == child.task_id
    harness.run(child, S.COMPLETED)
    assert harness.status(grandchild) == "pending"
    counts = harness.insights.counts("default").by_status
    assert (counts["failed"], counts["completed"], counts["pending"]) == (0, 3, 1)


def test_redriving_a_completed_root_makes_blocked_tasks_wait_for_it_again(
    harness: MetadataHarness,
) -> None:
    root, other = harness.accepted(), harness.accepted()
    child = harness.accepted(depends_on=(root.task_id, other.task_id))
    harness.run(root, S.COMPLETED)
    harness.tasks.redrive([root], delay_seconds=[0.0], max_queue_delay_seconds=900, outbox=False)
    assert harness.run(other, S.COMPLETED).to_send == []
    assert harness.status(child) == "blocked"
    harness.run(root, S.COMPLETED)
    assert harness.status(child) == "pending"


def test_a_spread_redrive_schedules(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(2)]
    for key in keys:
        harness.run(key, S.FAILED)
    harness.tasks.redrive(
        keys, delay_seconds=[0.0, 10.0], max_queue_delay_seconds=900, outbox=False
    )
    assert [harness.status(key) for key in keys] == ["pending", "scheduled"]
    assert harness.claim(keys[1]) == []
    harness.advance(11)
    assert len(harness.claim(keys[1])) == 1


def test_dead_letters_are_grouped_listed_and_discarded(harness: MetadataHarness) -> None:
    keys = [harness.accepted() for _ in range(3)]
    for key in keys[:2]:
        harness.run(key, S.FAILED)
    harness.run(keys[2], S.FAILED, fingerprint="f2")
    groups = harness.tasks.failure_groups("default", limit=10)
    assert [(g.fingerprint, g.task, g.error_type, g.message, g.count) for g in groups] == [
        ("f1", "noop", "ValueError", "no", 2),
        ("f2", "noop", "ValueError", "no", 1),
    ]
    where = TaskFilter(fingerprint="f1", dead_letters=True)
    assert harness.tasks.dead_letter_keys("default", where, task_ids=None, limit=10) == keys[:2]
    assert harness.tasks.discard([keys[0]]) == [keys[0]]
    assert harness.tasks.discard([keys[0]]) == []
    assert ids(harness, TaskFilter(dead_letters=True)) == [keys[2].task_id, keys[1].task_id]
    assert harness.status(keys[0]) == "failed"


def test_purging_deletes_old_final_tasks_with_all_that_belongs_to_them(
    harness: MetadataHarness,
) -> None:
    old = harness.accepted(
        idempotency_key="k",
        request_hash="h",
        tags=("t",),
        input_key="default/input/1",
        arguments=None,
    )
    waiting = harness.accepted()
    harness.run(old, S.COMPLETED, result=None, result_key="default/result/1")
    harness.advance(100)
    fresh = harness.accepted()
    harness.run(fresh, S.COMPLETED)
    before = harness.database.now() - 50_000_000
    assert harness.retention.purge(finished_before=before, limit=10) == (
        1,
        ["default/input/1", "default/result/1"],
    )
    assert set(ids(harness)) == {waiting.task_id, fresh.task_id}
    for table in ("task_tags", "idempotency_keys"):
        assert harness.count(table) == 0
    assert harness.tasks.events("default", old.task_id, after=0, limit=10) == []
    assert harness.insights.counts(None).by_status["completed"] == 1
    assert harness.retention.purge(finished_before=before, limit=10) == (0, [])


def test_history_resumes_after_an_event(harness: MetadataHarness) -> None:
    key = harness.accepted()
    harness.run(key, S.COMPLETED)
    first, *rest = harness.tasks.events("default", key.task_id, after=0, limit=10)
    assert harness.tasks.events("default", key.task_id, after=first.event_id, limit=10) == rest
    assert rest[0].data == {"attempt": 1, "worker_id": "w1"}


def test_history_says_which_request_cancelled_redrove_and_discarded(
    harness: MetadataHarness,
) -> None:
    key = harness.accepted()
    harness.tasks.cancel([key], request_id="a")
    run_anew = {"delay_seconds": [0.0], "max_queue_delay_seconds": MAX_DELAY, "outbox": False}
    harness.tasks.redrive([key], request_id="b", **run_anew)  # type: ignore[arg-type]
    harness.run(key, S.FAILED)
    harness.tasks.discard([key], request_id="c")
    harness.tasks.redrive([key], **run_anew)  # type: ignore[arg-type]
    harness.claim(key)
    harness.tasks.cancel([key], request_id="d")
    events = harness.tasks.events("default", key.task_id, after=0, limit=20)
    assert [(e.type.value, e.data) for e in events if e.type in BY_HAND] == [
        ("task.cancelled", {"request_id": "a"}),
        ("task.redriven", {"request_id": "b"}),
        ("task.discarded", {"request_id": "c"}),
        ("task.redriven", {}),  # embedded: there was no request
        ("task.cancel_requested", {"request_id": "d"}),
    ]


def test_the_outbox_hands_out_what_is_due_once(harness: MetadataHarness) -> None:
    harness.outbox.add([Message("00000000-0000-7000-8000-000000000001", "default", "noop", 1, 0.0)])
    harness.outbox.add(
        [Message("00000000-0000-7000-8000-000000000002", "default", "noop", 1, 2_000.0)]
    )
    [entry] = harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10)
    assert entry.message.task_id.endswith("1")
    assert harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10) == []
    harness.advance(31)  # the relay that took it died
    [again] = harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10)
    assert again.entry_id == entry.entry_id
    assert entry.entry_id is not None
    harness.outbox.delete([entry.entry_id])
    due_in = harness.outbox.next_due_seconds()
    assert due_in == pytest.approx(2_000 - 31, abs=2)
    harness.advance(1_100)
    [far] = harness.outbox.lease(lookahead_seconds=900, lease_seconds=30, limit=10)
    assert far.message.delay_seconds == pytest.approx(2_000 - 1_131, abs=2)


def test_a_queue_without_memory_is_rebuilt_most_urgent_first(harness: MetadataHarness) -> None:
    low = harness.accepted(priority=3)
    high = harness.accepted(priority=0)
    near = harness.accepted(delay_seconds=60.0)
    harness.accepted(delay_seconds=2_000.0)
    running = harness.accepted()
    harness.claim(running)
    harness.accepted(depends_on=(low.task_id,))
    messages = [m for batch in harness.outbox.waiting(within_seconds=900, batch=1) for m in batch]
    assert {m.task_id for m in messages} == {low.task_id, high.task_id, near.task_id}
    pending = [m.task_id for m in messages if m.task_id != near.task_id]
    assert pending == [high.task_id, low.task_id]


def test_counts_follow_every_transition(harness: MetadataHarness) -> None:
    keys = [harness.accepted(priority=1) for _ in range(4)]
    harness.advance(5)
    harness.run(keys[0], S.COMPLETED)
    [running] = harness.claim(keys[1])
    harness.tasks.cancel([keys[2]])
    counts = harness.insights.counts("default")
    expected = {"completed": 1, "running": 1, "cancelled": 1, "pending": 1}
    assert {status: n for status, n in counts.by_status.items() if n} == expected
    assert counts.active_by_priority[1] == 2
    assert counts.oldest_waiting_seconds == pytest.approx(5, abs=1)
    assert counts.mean_duration_ms == 1.5
    assert harness.insights.counts("other").by_status["completed"] == 0
    harness.finish(outcome(running, S.FAILED))
    assert harness.insights.counts(None).by_status["failed"] == 1


def test_workers_report_and_are_forgotten(harness: MetadataHarness) -> None:
    record = WorkerRecord("w1", "host", 7, 0, 0, "running", {"total": 4})
    harness.workers.report(record)
    harness.advance(5)
    harness.workers.report(record._replace(status="draining"))
    [seen] = harness.workers.list()
    assert (seen.worker_id, seen.status, seen.details) == ("w1", "draining", {"total": 4})
    assert seen.seen_at > seen.started_at
    harness.workers.forget(["w1"])
    assert harness.workers.list() == []


def test_an_exported_store_is_the_same_after_import(harness: MetadataHarness) -> None:
    key = harness.accepted(tags=("t",), idempotency_key="k", request_hash="h")
    harness.run(key, S.COMPLETED)
    rows = list(harness.maintenance.export())
    harness.accepted()
    assert harness.maintenance.import_rows(iter(rows)) == len(rows)
    assert list(harness.maintenance.export()) == rows
    follower = harness.accepted()
    assert harness.history(follower) == ["submitted"]
    harness.maintenance.ping()


def test_whether_a_task_is_final_is_known_of_known_tasks_only(harness: MetadataHarness) -> None:
    waiting, done = harness.accepted(), harness.accepted()
    harness.run(done, S.COMPLETED)
    unknown, foreign = TaskKey("default", harness.new_id()), TaskKey("other", done.task_id)
    assert harness.tasks.final([waiting, done, unknown, foreign]) == {waiting: False, done: True}


@pytest.mark.parametrize(
    "where",
    [
        TaskFilter(q="needle"),
        TaskFilter(priority=0),
        TaskFilter(priority=0, statuses=frozenset({S.CANCELLED})),
        TaskFilter(priority=0, statuses=frozenset({S.CANCELLED, S.EXPIRED})),
        TaskFilter(q="needle", statuses=frozenset({S.COMPLETED, S.CANCELLED})),
        TaskFilter(q="needle", tag="t"),
        TaskFilter(q="needle", task="noop", priority=0),
    ],
)
def test_what_no_index_finds_is_looked_for_page_by_page(
    harness: MetadataHarness, where: TaskFilter
) -> None:
    """Each page looks at four tasks, and the next goes on where it ended: nothing is missed, nothing comes twice."""
    harness = replace(harness, most_looked_at=4)
    keys = [
        harness.accepted(
            name="a needle" if wanted else "hay", priority=0 if wanted else 2, tags=("t",)
        )
        for wanted in map(int, "100000000011000000")
    ]
    harness.tasks.cancel(keys)
    needles = [keys[n].task_id for n in (11, 10, 0)]
    found, cursors, before = [], [], None
    while True:
        page = ids(harness, where, limit=2, before=before)
        found += page
        more = harness.tasks.looked_until("default", where, before=before)
        before = page[-1] if len(page) == 2 else more
        if before is None:
            break
        cursors.append(before)
    assert found == needles
    assert cursors == sorted(cursors, reverse=True)
    assert len(cursors) == len(set(cursors)) > 3
