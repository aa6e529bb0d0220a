"""A task submitted in the caller's transaction exists exactly if that commits."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from taskflow.app import TaskFlow
from taskflow.core.errors import (
    IdempotencyConflictError,
    StoreBusyError,
    TaskNotFoundError,
    UnknownDependencyError,
)
from taskflow.core.registry import Registry, TaskOptions
from taskflow.core.submission import Submission, SubmitOptions
from tests.integration.transactional.conftest import POSTGRESQL, Caller
from tests.support.waiting import wait_for


def test_it_runs_once_the_transaction_has_been_committed(app: TaskFlow, caller: Caller) -> None:
    caller.insert(1)
    handle = app.submit("echo_back", 7, connection=caller.connection)
    with pytest.raises(TaskNotFoundError):
        handle.task()
    caller.insert(2)
    caller.commit()
    assert handle.result(timeout=30) == 7
    assert caller.orders() == [1, 2]
    assert next(iter(handle.history())).type == "task.submitted"


def test_it_never_was_when_the_transaction_is_rolled_back(app: TaskFlow, caller: Caller) -> None:
    caller.insert(1)
    gone = app.submit("echo_back", 7, connection=caller.connection)
    caller.rollback()
    after = app.submit("echo_back", 8, connection=caller.connection)
    caller.commit()
    assert after.result(timeout=30) == 8
    with pytest.raises(TaskNotFoundError):
        gone.task()
    assert caller.orders() == []


def test_it_may_be_the_first_thing_in_the_transaction(app: TaskFlow, caller: Caller) -> None:
    handle = app.submit("echo_back", 7, connection=caller.connection)
    caller.insert(1)
    caller.commit()
    assert handle.result(timeout=30) == 7
    assert caller.orders() == [1]


def test_it_comes_with_all_its_options(app: TaskFlow, caller: Caller) -> None:
    calls = app.options(
        connection=caller.connection, priority="high", tags=["a"], metadata={"k": 1}, delay=3600
    )
    handle = calls.submit("echo_back", 7)
    caller.commit()
    task = handle.task()
    assert (task.status, task.priority.name, task.tags) == ("scheduled", "HIGH", ["a"])
    assert task.metadata == {"k": 1}


@pytest.mark.parametrize("kind", ["sqlite3"], indirect=True)
def test_whatever_the_caller_has_rows_and_texts_made_into(app: TaskFlow, caller: Caller) -> None:
    caller.connection.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row, strict=True)
    }
    caller.connection.text_factory = bytes
    calls = app.options(connection=caller.connection, idempotency_key="k")
    first, again = calls.submit("echo_back", "ü"), calls.submit("echo_back", "ü")
    assert (again.id, again.replayed) == (first.id, True)
    caller.commit()
    assert first.result(timeout=30) == "ü"


def test_a_handlers_own_submit_takes_part_too(app: TaskFlow, caller: Caller) -> None:
    handler = app.runtime.registry.get("echo_back")
    gone = handler.options(connection=caller.connection).submit(1)
    caller.rollback()
    kept = handler.options(connection=caller.connection).submit(2)
    caller.commit()
    assert kept.result(timeout=30) == 2
    with pytest.raises(TaskNotFoundError):
        gone.task()


def test_many_at_once_share_the_transaction(app: TaskFlow, caller: Caller) -> None:
    parent = app.submit("echo_back", 0, connection=caller.connection)
    answers = app.submit_many(
        [
            Submission("echo_back", (1,), options=SubmitOptions.of(depends_on=[parent.id])),
            Submission(
                "echo_back", (2,), options=SubmitOptions.of(depends_on=["0" * 8 + "-0000-7000-8000-" + "0" * 12])
            ),
        ],
        return_errors=True,
        connection=caller.connection,
    )  # fmt: skip
    assert isinstance(answers[1], UnknownDependencyError)
    caller.commit()
    child = answers[0]
    assert not isinstance(child, Exception)
    assert child.result(timeout=30) == 1


def test_arguments_over_the_inline_limit_are_there_when_it_runs(
    app: TaskFlow, caller: Caller
) -> None:
    large = "x" * 1_000
    handle = app.submit("echo_back", large, connection=caller.connection)
    caller.commit()
    assert handle.result(timeout=30) == large


def test_payloads_of_what_was_rolled_back_are_found_by_the_doctor(
    app: TaskFlow, caller: Caller
) -> None:
    app.submit("echo_back", "x" * 1_000, connection=caller.connection)
    caller.rollback()
    [key] = app.runtime.payloads.list()
    assert "/input/" in key


def test_a_key_used_before_is_replayed_or_refused_and_the_transaction_goes_on(
    app: TaskFlow, caller: Caller
) -> None:
    first = app.options(idempotency_key="k").submit("echo_back", 1)
    again = app.options(idempotency_key="k", connection=caller.connection)
    same = again.submit("echo_back", 1)
    assert (same.id, same.replayed) == (first.id, True)
    with pytest.raises(IdempotencyConflictError):
        again.submit("echo_back", 2)
    caller.insert(1)
    caller.commit()
    assert caller.orders() == [1]


def test_a_key_taken_in_a_transaction_that_is_rolled_back_is_free_again(
    app: TaskFlow, caller: Caller
) -> None:
    gone = app.options(idempotency_key="k", connection=caller.connection).submit("echo_back", 1)
    caller.rollback()
    handle = app.options(idempotency_key="k").submit("echo_back", 2)
    assert (handle.replayed, handle.id != gone.id) == (False, True)
    assert handle.result(timeout=30) == 2


def test_an_argument_that_is_called_connection_is_still_an_argument(app: TaskFlow) -> None:
    assert app.submit("takes_connection", connection="serial").result(timeout=30) == "serial"


@pytest.mark.parametrize(
    "kind", POSTGRESQL, indirect=True
)  # SQLite has one writer: there others wait
def test_others_neither_wait_for_the_transaction_nor_see_it(app: TaskFlow, caller: Caller) -> None:
    handle = app.submit("echo_back", 1, connection=caller.connection)
    assert app.submit("echo_back", 2).result(timeout=30) == 2
    assert handle.id not in [task.task_id for task in app.list().items]
    caller.commit()
    assert handle.result(timeout=30) == 1


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_a_key_taken_in_the_transaction_keeps_nobody_waiting_who_wants_another(
    app: TaskFlow, caller: Caller
) -> None:
    first = app.options(idempotency_key="k", connection=caller.connection).submit("echo_back", 1)
    again = Submission("echo_back", (1,), options=SubmitOptions.of(idempotency_key="k"))
    other = Submission("echo_back", (2,), options=SubmitOptions.of(idempotency_key="l"))
    began = time.monotonic()
    refused, accepted, last = app.submit_many(
        [again, other, Submission("echo_back", (3,))], return_errors=True
    )
    assert time.monotonic() - began < 10  # a statement may take 30
    assert isinstance(refused, StoreBusyError)
    assert refused.retry_after_seconds == 1
    assert [h.result(timeout=30) for h in (accepted, last) if not isinstance(h, Exception)] == [
        2,
        3,
    ]
    caller.commit()
    same = app.options(idempotency_key="k").submit("echo_back", 1)
    assert (same.id, same.replayed) == (first.id, True)


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_a_task_that_fails_as_it_is_submitted_keeps_no_other_failure_waiting(
    app: TaskFlow, caller: Caller
) -> None:
    """They are counted in the same place."""
    failed = app.submit("fails")
    failed.wait(timeout=30)
    child = app.options(connection=caller.connection, depends_on=[failed.id]).submit("fails")
    assert app.submit("fails").wait(timeout=10).status == "failed"
    caller.commit()
    assert child.task().status == "failed"
    assert app.metrics()["queue"]["failed_count"] == 3


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_a_task_that_ends_meanwhile_keeps_no_other_outcome_waiting(
    app: TaskFlow, caller: Caller, gate: threading.Event
) -> None:
    """It has to wait itself: only after the commit it is known what depends on it."""
    parent = app.submit("waits_for_gate")
    wait_for(lambda: parent.task().status == "running", "it runs")
    child = app.options(connection=caller.connection, depends_on=[parent.id]).submit("echo_back", 1)
    gate.set()
    for number in range(5):
        assert app.submit("echo_back", number).result(timeout=10) == number
    assert parent.task().status == "running"
    caller.commit()
    assert parent.result(timeout=30) is True
    assert child.result(timeout=30) == 1


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_a_worker_says_once_that_an_outcome_waits_for_long(
    app: TaskFlow, caller: Caller, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Not as soon as it has been given again often: a busy worker does so with every other outcome."""
    parent = app.submit("waits_for_gate")
    wait_for(lambda: parent.task().status == "running", "it runs")
    app.options(connection=caller.connection, depends_on=[parent.id]).submit("echo_back", 1)
    began = time.monotonic()
    gate.set()

    def said() -> list[str]:
        return [line for line in caplog.messages if "worker.outcomes_locked" in line]

    while not said() and time.monotonic() - began < 30:
        app.submit("echo_back", 1).result(timeout=10)
    assert time.monotonic() - began >= 1.0
    for _ in range(10):
        app.submit("echo_back", 1).result(timeout=10)
    assert [parent.id in line for line in said()] == [True]
    caller.commit()
    assert parent.result(timeout=30) is True


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_what_could_not_be_written_before_a_stop_is_written_while_it_stops(
    app: TaskFlow, caller: Caller, gate: threading.Event
) -> None:
    parent = app.submit("waits_for_gate")
    wait_for(lambda: parent.task().status == "running", "it runs")
    app.options(connection=caller.connection, depends_on=[parent.id]).submit("echo_back", 1)
    gate.set()
    assert app.submit("echo_back", 1).result(timeout=10) == 1
    stopping = threading.Thread(target=app.stop_workers)
    stopping.start()
    wait_for(lambda: "taskflow-claimer" not in names(), "nothing is claimed any more")
    assert "taskflow-finisher" in names()
    assert parent.task().status == "running"
    caller.commit()
    stopping.join(30)
    assert parent.task().status == "completed"


@pytest.mark.parametrize("backend", ["aws"], indirect=True)
def test_on_sqs_the_relay_sends_its_message_after_the_commit(
    backend: dict[str, Any], tmp_path: Path
) -> None:
    registry = Registry()
    registry.add(lambda x: x, name="echo_back", declared=TaskOptions())
    app = TaskFlow(home=tmp_path / "home", handlers=registry, num_workers=1, **backend)
    with app, closing(psycopg2.connect(backend["database_url"])) as connection:
        handle = app.submit("echo_back", 7, connection=connection)
        assert not any(map(sum, app.runtime.queue.depths().values())), "nothing is committed"
        connection.commit()
        assert handle.result(timeout=30) == 7
        assert app.runtime.stores.outbox.next_due_seconds() is None, "it was sent, not only run"


@pytest.mark.parametrize("kind", ["psycopg2"], indirect=True)
def test_many_keys_taken_in_the_transaction_keep_the_others_waiting_no_longer_than_a_few(
    app: TaskFlow, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"k{n}" for n in range(64)]
    for key in keys:
        app.options(idempotency_key=key, connection=caller.connection).submit("echo_back", 1)
    waits: list[int] = []
    insert = app.runtime.stores.submissions.insert

    def counted(tasks: Any, **options: Any) -> Any:
        try:
            return insert(tasks, **options)
        except StoreBusyError:
            waits.append(len(tasks))
            raise

    monkeypatch.setattr(app.runtime.stores.submissions, "insert", counted)
    again = [
        Submission("echo_back", (1,), options=SubmitOptions.of(idempotency_key=key)) for key in keys
    ]
    plain = [Submission("echo_back", (n,)) for n in range(64)]
    mixed = [one for pair in zip(again, plain, strict=True) for one in pair]
    answers = app.submit_many(mixed, return_errors=True)
    assert all(isinstance(answer, StoreBusyError) for answer in answers[::2])
    results = [h.result(timeout=30) for h in answers[1::2] if not isinstance(h, Exception)]
    assert results == list(range(64))
    assert waits.count(1) <= 4
    assert len(waits) <= 20
