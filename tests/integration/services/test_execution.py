"""How an attempt ends: the verdict, what is stored of it, and in which order the world is told."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, field_serializer

from taskflow.core.errors import (
    AttemptCancelledError,
    AttemptTimeoutError,
    InvalidArgumentsError,
    StoreUnavailableError,
    UnknownTaskError,
    WorkerCrashedError,
)
from taskflow.core.retry import Reject, Retry, RetryPolicy
from taskflow.core.task import DEFAULT_TENANT, ErrorClass, Task
from taskflow.ports.metadata import TaskKey
from taskflow.ports.queue import Delivery
from tests.integration.services.conftest import Engine, Engines, noop
from tests.support.database_time import about_sqlite

STEADY = RetryPolicy(base_seconds=10, factor=2, cap_seconds=900, jitter=False)


@pytest.fixture
def task(engine: Engine) -> str:
    return engine.handler(noop, retry_policy=STEADY)


def delay(task: Task, engine: Engine) -> float:
    return task.run_at.timestamp() - engine.clock.now_us() / 1_000_000


# --- verdicts -------------------------------------------------------------------------------------


def test_a_transient_error_is_retried_with_growing_delays_until_the_retries_are_used_up(
    engine: Engine, task: str
) -> None:
    task_id = engine.submit(task, max_retries=2)
    for wait in (10, 20):
        engine.fail(engine.start_one(), ConnectionError("refused"))
        stored = engine.get(task_id)
        assert stored.status == "retrying"
        assert delay(stored, engine) == pytest.approx(wait)
        assert engine.start() == []
        engine.clock.advance(wait)
    engine.fail(engine.start_one(), ConnectionError("refused"), 7.5)
    stored = engine.get(task_id)
    assert (stored.status, stored.attempt, stored.failure_count) == ("failed", 3, 3)
    assert stored.duration_ms == 7.5
    assert stored.error is not None
    assert (stored.error.type, stored.error.classification) == ("ConnectionError", "transient")
    assert engine.history(task_id) == [
        "submitted", "started", "retrying", "started", "retrying", "started", "failed",
    ]  # fmt: skip


def test_a_success_after_a_failure_has_no_error(engine: Engine, task: str) -> None:
    task_id = engine.submit(task)
    engine.fail(engine.start_one(), ConnectionError())
    engine.clock.advance(10)
    engine.succeed(engine.start_one(), {"n": 1})
    stored = engine.get(task_id)
    assert (stored.status, stored.result, stored.error) == ("completed", {"n": 1}, None)
    assert (stored.attempt, stored.failure_count) == (2, 1)


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (ValueError("bad"), ErrorClass.PERMANENT),
        (Reject("never"), ErrorClass.PERMANENT),
        (UnknownTaskError("who?"), ErrorClass.PERMANENT),
        (InvalidArgumentsError("no"), ErrorClass.PERMANENT),
    ],
)
def test_a_permanent_error_fails_at_once(
    engine: Engine, task: str, exc: Exception, kind: ErrorClass
) -> None:
    task_id = engine.submit(task, max_retries=5)
    engine.fail(engine.start_one(), exc)
    stored = engine.get(task_id)
    assert stored.status == "failed"
    assert stored.error is not None
    assert stored.error.classification == kind
    assert engine.runtime.counters.snapshot()["errors_by_class"] == {kind.value: 1}


def test_a_timeout_uses_up_a_retry(engine: Engine, task: str) -> None:
    task_id = engine.submit(task, max_retries=1)
    engine.fail(engine.start_one(), AttemptTimeoutError("5 s"))
    assert engine.status(task_id) == "retrying"
    engine.clock.advance(10)
    engine.fail(engine.start_one(), AttemptTimeoutError("5 s"))
    assert engine.status(task_id) == "failed"


def test_a_raised_retry_names_its_own_delay(engine: Engine, task: str) -> None:
    task_id = engine.submit(task)
    engine.fail(engine.start_one(), Retry("later", delay=77))
    stored = engine.get(task_id)
    assert delay(stored, engine) == pytest.approx(77)
    assert stored.failure_count == 1


def test_waiting_for_a_rate_limit_uses_up_no_retry(engine: Engine, task: str) -> None:
    class TooManyRequests(Exception):
        status_code = 429
        retry_after = 120

    task_id = engine.submit(task, max_retries=0)
    for exc in (Retry("not yet", delay=5, counts=False), TooManyRequests(), TooManyRequests()):
        engine.fail(engine.start_one(), exc)
        stored = engine.get(task_id)
        assert (stored.status, stored.failure_count) == ("retrying", 0)
        engine.clock.advance(delay(stored, engine))
    engine.succeed(engine.start_one())
    assert engine.get(task_id).attempt == 4


def test_a_rate_limit_that_never_ends_makes_a_dead_letter_that_says_so(engines: Engines) -> None:
    engine = engines(max_uncounted_attempts=3)
    task_id = engine.submit(engine.handler(noop, retry_policy=STEADY), max_retries=0)
    engine.fail(engine.start_one(), Retry("busy", counts=False))
    engine.clock.advance(100)
    engine.fail(engine.start_one(), WorkerCrashedError("counted apart"))
    for _ in range(2):
        assert engine.status(task_id) == "retrying"
        engine.clock.advance(100)
        engine.fail(engine.start_one(), Retry("busy", counts=False))
    stored = engine.get(task_id)
    assert (stored.status, stored.attempt, stored.failure_count) == ("failed", 4, 0)
    assert stored.error is not None
    assert stored.error.classification == "rate_limited"
    assert stored.error.message == (
        "3 attempts that used up no retry (TASKFLOW_MAX_UNCOUNTED_ATTEMPTS); the last one: busy"
    )


def test_who_only_waits_for_a_part_of_ours_waits_as_long_as_it_takes(engines: Engines) -> None:
    engine = engines(max_uncounted_attempts=2)
    task_id = engine.submit(engine.handler(noop), max_retries=0)
    execution = engine.runtime.execution
    away = StoreUnavailableError("the payload store is away")
    for _ in range(10):
        attempt = engine.start_one()
        execution.finish([(attempt, execution.postponed(attempt, away, delay_seconds=5.0))])
        stored = engine.get(task_id)
        assert (stored.status, stored.attempt, stored.failure_count) == ("retrying", 0, 0)
        assert stored.error is not None
        assert stored.error.message == "the payload store is away"
        engine.clock.advance(5.001)
    engine.succeed(engine.start_one())
    assert (engine.status(task_id), engine.get(task_id).attempt) == ("completed", 1)


def test_retry_after_is_the_least_delay(engine: Engine, task: str) -> None:
    class Unavailable(Exception):
        status_code = 503
        retry_after_seconds = 300.0

    task_id = engine.submit(task)
    engine.fail(engine.start_one(), Unavailable())
    assert delay(engine.get(task_id), engine) == pytest.approx(300)


def test_no_retry_is_made_that_could_not_start_before_the_deadline(
    engine: Engine, task: str
) -> None:
    hopeless = engine.submit(task, expires_in=10)
    engine.fail(engine.start_one(), ConnectionError())
    assert engine.status(hopeless) == "failed"
    in_time = engine.submit(task, expires_in=10.1)
    engine.fail(engine.start_one(), ConnectionError())
    assert engine.status(in_time) == "retrying"


def test_crashes_are_counted_apart_from_failures(engines: Engines) -> None:
    engine = engines(max_crashes=2)
    task_id = engine.submit(engine.handler(noop, retry_policy=STEADY), max_retries=1)
    engine.fail(engine.start_one(), ConnectionError())
    engine.clock.advance(10)
    engine.fail(engine.start_one(), WorkerCrashedError("killed"))
    stored = engine.get(task_id)
    assert (stored.status, stored.failure_count, stored.crash_count) == ("retrying", 1, 1)
    engine.fail(engine.start_one(), WorkerCrashedError("killed"))
    stored = engine.get(task_id)
    assert (stored.status, stored.failure_count, stored.crash_count) == ("failed", 1, 2)
    assert stored.error is not None
    assert stored.error.classification == "crashed"


# --- results --------------------------------------------------------------------------------------


class Answer(BaseModel):
    n: int = 1
    when: timedelta = timedelta(seconds=5)


class Broken(BaseModel):
    n: int = 1

    @field_serializer("n")
    def _raise(self, _: int) -> int:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (0, 0),
        ([1, (2, 3), {"ü": "😀"}], [1, [2, 3], {"ü": "😀"}]),
        (2**63 - 1, 2**63 - 1),
        (Answer(), {"n": 1, "when": "PT5S"}),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_results_come_back_as_json(engine: Engine, task: str, value: Any, stored: Any) -> None:
    task_id = engine.submit(task)
    engine.succeed(engine.start_one(), value)
    assert (engine.status(task_id), engine.get(task_id).result) == ("completed", stored)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, float("nan"), 2**63, "\x00", "\ud800", [[[]]] * 1 + [set()], Broken()],
)
def test_a_result_json_cannot_carry_fails_the_attempt_for_good(
    engine: Engine, task: str, value: Any
) -> None:
    task_id = engine.submit(task, max_retries=5)
    engine.succeed(engine.start_one(), value)
    stored = engine.get(task_id)
    assert stored.status == "failed"
    assert stored.error is not None
    assert stored.error.type == "InvalidResultError"


def test_a_result_that_is_too_large_fails_the_attempt_and_names_the_setting(
    engine: Engine, task: str
) -> None:
    task_id = engine.submit(task)
    engine.succeed(engine.start_one(), "x" * 2**20)
    stored = engine.get(task_id)
    assert stored.error is not None
    assert stored.error.type == "PayloadTooLargeError"
    assert "TASKFLOW_MAX_PAYLOAD_BYTES" in stored.error.message
    assert engine.payload_files() == []


# --- starting -------------------------------------------------------------------------------------


def test_stored_arguments_are_converted_to_the_handlers_types(engine: Engine) -> None:
    def add(days: timedelta, answer: Answer, *more: int) -> None: ...

    engine.submit(engine.handler(add), timedelta(days=2), Answer(n=3), 1, 2)
    args, kwargs = engine.runtime.execution.arguments(engine.start_one())
    assert (args, kwargs) == ([timedelta(days=2), Answer(n=3), 1, 2], {})


def test_what_cannot_start_is_forgotten_or_hidden_until_it_is_due(
    engine: Engine, task: str
) -> None:
    running, gone, early, ready = (
        engine.submit(task),
        engine.submit(task),
        engine.submit(task, delay=60),
        engine.submit(task),
    )
    first = engine.start(1)
    engine.runtime.tasks.cancel(DEFAULT_TENANT, gone)
    deliveries = [
        Delivery(task_id, DEFAULT_TENANT, task, 2, f"receipt of {task_id}", 1)
        for task_id in (running, early, ready, ready)
    ]
    attempts = engine.runtime.execution.start([*deliveries, *engine.receive()])
    assert [attempt.task.task_id for attempt in attempts] == [ready]
    assert [attempt.task.task_id for attempt in first] == [running]
    engine.clock.advance(61)
    assert [attempt.task.task_id for attempt in engine.start()] == [early]


@pytest.mark.parametrize(("tenant_id", "task_id"), [(DEFAULT_TENANT, "t1"), ("a\0b", None)])
def test_a_message_that_names_no_task_keeps_no_other_from_starting(
    engine: Engine, task: str, tenant_id: str, task_id: str | None
) -> None:
    ready = engine.submit(task)
    foreign = Delivery(task_id or ready, tenant_id, task, 2, "receipt of a foreign one", 1)
    attempts = engine.runtime.execution.start([foreign, *engine.receive()])
    assert [attempt.task.task_id for attempt in attempts] == [ready]


def test_a_task_given_back_has_lost_nothing(engine: Engine, task: str) -> None:
    task_id = engine.submit(task)
    execution = engine.runtime.execution
    attempt = engine.start_one()
    execution.finish([(attempt, execution.given_back(attempt))])
    stored = engine.get(task_id)
    assert (stored.status, stored.attempt, stored.failure_count) == ("pending", 0, 0)
    assert engine.start_one().task.attempt == 1


# --- the order of things --------------------------------------------------------------------------


@about_sqlite
def test_a_message_is_acknowledged_only_after_its_outcome_is_durable(
    engines: Engines,
) -> None:
    engine = engines(database_busy_timeout_seconds=0, lease_seconds=30)
    from taskflow.adapters.metadata.database import Database

    task_id = engine.submit(engine.handler(noop))
    attempt = engine.start_one()
    execution = engine.runtime.execution
    done = [(attempt, execution.succeeded(attempt, 1, 1.0))]
    other = Database(engine.runtime.settings.resolved_database_url, clock=engine.clock)
    with other.write(), pytest.raises(StoreUnavailableError):
        execution.finish(done)
    other.close()
    depth = engine.runtime.queue.depths()
    assert sum(d.in_flight for d in depth.values()) == 1
    execution.finish(done)
    assert sum(d.in_flight for d in engine.runtime.queue.depths().values()) == 0
    assert engine.status(task_id) == "completed"


def test_the_message_of_a_retry_does_not_meet_the_one_that_is_acknowledged(
    engine: Engine, task: str
) -> None:
    """Acknowledged after it was sent, the retry would be forgotten: the local queue knows a task once."""
    task_id = engine.submit(task)
    engine.fail(engine.start_one(), Retry(delay=0))
    assert [attempt.task.task_id for attempt in engine.start()] == [task_id]


def test_an_outcome_that_came_too_late_changes_nothing_and_is_counted(
    engine: Engine, task: str
) -> None:
    task_id = engine.submit(task)
    attempt = engine.start_one()
    execution = engine.runtime.execution
    outcome = execution.succeeded(attempt, "mine", 1.0)
    execution.finish([(attempt, outcome)])
    execution.finish([(attempt, execution.failed(attempt, ValueError(), 1.0))])
    assert engine.get(task_id).result == "mine"
    totals = engine.runtime.counters.snapshot()["totals"]
    assert (totals["succeeded"], totals["failed"], totals["fenced"]) == (1, 0, 1)


def test_of_two_attempts_that_end_together_the_one_that_counts_is_counted(
    engine: Engine, task: str
) -> None:
    """The lease was lost, and the task came back to the same worker."""
    task_id = engine.submit(task)
    lost = engine.start_one()
    engine.write_row(task_id, engine.row(task_id) | {"lease_token": 4711})
    kept = replace(lost, task=lost.task._replace(lease_token=4711))
    execution = engine.runtime.execution
    done = [
        (lost, execution.succeeded(lost, "lost", 1.0)),
        (kept, execution.succeeded(kept, "kept", 1.0)),
    ]
    assert execution.finish(done) == frozenset()
    assert engine.get(task_id).result == "kept"
    totals = engine.runtime.counters.snapshot()["totals"]
    assert (totals["succeeded"], totals["fenced"]) == (1, 1)


def test_a_claim_that_the_store_has_lost_loses_no_task(engine: Engine, task: str) -> None:
    """PostgreSQL does not wait for the disk when a task is claimed; a replica that takes over may know even less."""
    task_id = engine.submit(task)
    before = engine.row(task_id)
    attempt = engine.start_one()
    engine.write_row(task_id, before)
    engine.succeed(attempt, "never written")
    assert engine.runtime.counters.snapshot()["totals"]["fenced"] == 1
    assert (engine.status(task_id), engine.receive()) == ("pending", [])
    engine.clock.advance(1.1)
    engine.succeed(engine.start_one(), "again")
    assert engine.get(task_id).result == "again"


def test_the_message_of_a_fenced_outcome_is_dropped_when_another_worker_has_the_task(
    engines: Engines,
) -> None:
    engine = engines(lease_seconds=10)
    task_id = engine.submit(engine.handler(noop))
    attempt = engine.start_one()
    engine.write_row(task_id, engine.row(task_id) | {"lease_token": 4711})
    engine.succeed(attempt)
    engine.clock.advance(1.1)
    assert engine.start() == []
    assert engine.status(task_id) == "running"
    engine.clock.advance(60)
    assert engine.receive() == []


def test_a_cancellation_during_the_attempt_ends_it_whatever_it_raised(
    engine: Engine, task: str
) -> None:
    stopped, failing = engine.submit(task), engine.submit(task)
    told: list[TaskKey] = []
    engine.runtime.tasks.on_cancel(told.extend)
    one, two = engine.start()
    for task_id in (stopped, failing):
        assert engine.runtime.tasks.cancel(DEFAULT_TENANT, task_id).cancel_requested
    assert told == [TaskKey(DEFAULT_TENANT, stopped), TaskKey(DEFAULT_TENANT, failing)]
    beat = engine.runtime.execution.heartbeat([one, two], {})
    assert set(beat.cancel_requested) == set(told)
    engine.fail(one, AttemptCancelledError("cancelled"))
    engine.fail(two, ConnectionError("would be retried"))
    assert (engine.status(stopped), engine.status(failing)) == ("cancelled", "cancelled")
    totals = engine.runtime.counters.snapshot()["totals"]
    assert (totals["cancelled"], totals["retried"]) == (2, 0)


def test_a_heartbeat_keeps_lease_and_message_and_writes_progress(engines: Engines) -> None:
    engine = engines(lease_seconds=10)
    other = engines(lease_seconds=10)
    task_id = engine.submit(engine.handler(noop))
    attempt = engine.start_one()
    for n in range(10):
        engine.clock.advance(8)
        result = engine.runtime.execution.heartbeat([attempt], {task_id: (n * 10.0, f"step {n}")})
        engine.runtime.execution.keep_hidden([attempt])
        assert result.lost == []
        assert other.runtime.recovery.run_once() == 0
        assert engine.start() == []
    stored = engine.get(task_id)
    assert (stored.progress, stored.progress_message) == (90.0, "step 9")
    engine.succeed(attempt)
    lost = engine.runtime.execution.heartbeat([attempt], {})
    assert lost.lost == [TaskKey(DEFAULT_TENANT, task_id)]


def test_those_who_wait_are_told_when_the_outcome_is_durable(engine: Engine, task: str) -> None:
    task_id = engine.submit(task)
    seen: list[str] = []
    told = threading.Event()

    def look(_: TaskKey, _result: str | None) -> None:
        seen.append(engine.status(task_id))
        told.set()

    engine.runtime.completions.subscribe(TaskKey(DEFAULT_TENANT, task_id), look)
    engine.succeed(engine.start_one())
    assert told.is_set()
    assert seen == ["completed"]


def test_what_waits_for_a_task_starts_when_it_completes_and_fails_when_it_fails(
    engine: Engine, task: str
) -> None:
    good, bad = engine.submit(task), engine.submit(task, "bad")
    after_good, after_bad = (
        engine.submit(task, depends_on=[good]),
        engine.submit(task, depends_on=[good, bad]),
    )
    one, two = engine.start()
    engine.succeed(one)
    assert [attempt.task.task_id for attempt in engine.start()] == [after_good]
    engine.fail(two, ValueError("bad"))
    stored = engine.get(after_bad)
    assert stored.status == "failed"
    assert stored.error is not None
    assert bad in stored.error.message


def test_failures_are_logged_where_only_warnings_are(
    engine: Engine, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="taskflow")
    engine.submit(task, max_retries=1)
    engine.fail(engine.start_one(), ConnectionError("refused"))
    engine.clock.advance(10)
    engine.fail(engine.start_one(), ConnectionError("refused"))
    engine.submit(task)
    engine.succeed(engine.start_one())
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["task.retrying", "task.failed"]
