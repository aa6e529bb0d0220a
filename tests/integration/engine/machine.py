"""Drives real engines on one store and the model side by side; Hypothesis chooses what happens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskflow.bootstrap import Runtime
from taskflow.core.errors import (
    IdempotencyConflictError,
    InvalidTransitionError,
    UnknownDependencyError,
)
from taskflow.core.events import EventType
from taskflow.core.retry import Retry
from taskflow.core.submission import Accepted, Submission, SubmitOptions
from taskflow.core.task import FINAL, TRANSITIONS, TaskPriority, TaskStatus
from taskflow.ports.metadata import Outcome, WorkerRecord
from taskflow.ports.queue import Message
from taskflow.services.execution import Attempt
from taskflow.testing.clock import FakeClock
from taskflow.worker.reporter import REPORT_SECONDS
from tests.integration.engine.model import SECOND, Model, ModelTask, S

LEASE_SECONDS = 30.0
MAX_CRASHES = 3
TENANTS = ("default", "other")
MOST_PROCESSES = 3
_TURNS = 60  # of draining; each lets twice as much time pass as the one before, up to a limit

# Which status each kind of event may have led to.
_LEADS_TO: dict[EventType, tuple[TaskStatus, ...]] = {
    EventType.SUBMITTED: (S.PENDING, S.SCHEDULED, S.BLOCKED),
    EventType.RELEASED: (S.PENDING, S.SCHEDULED),
    EventType.STARTED: (S.RUNNING,),
    EventType.RETRYING: (S.RETRYING,),
    EventType.RECOVERED: (S.PENDING,),
    EventType.COMPLETED: (S.COMPLETED,),
    EventType.FAILED: (S.FAILED,),
    EventType.CANCELLED: (S.CANCELLED,),
    EventType.EXPIRED: (S.EXPIRED,),
    EventType.REDRIVEN: (S.PENDING, S.SCHEDULED, S.BLOCKED),
}


class Store(ABC):
    """Where the engines of one example keep their tasks."""

    knows_the_dead: bool
    """Whether a dead worker is recognised before its leases have run out."""

    clock: FakeClock

    @abstractmethod
    def open(self, *, num_workers: int) -> Runtime:
        """One more process."""

    @abstractmethod
    def moved(self) -> None:
        """The clock was moved: database time follows."""

    @abstractmethod
    def close(self) -> None: ...


@dataclass(eq=False)
class Process:
    runtime: Runtime
    attempts: list[Attempt] = field(default_factory=list)  # held here, perhaps under a lost lease
    is_alive: bool = True


class EngineMachine(RuleBasedStateMachine):
    """``store`` is set by `machine_on`."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.clock = self.store.clock
        self.model = Model()
        self.processes: list[Process] = []
        self.graveyard: list[Process] = []
        self.by_id: dict[str, ModelTask] = {}
        self.submitter = self.store.open(num_workers=0)
        self.numbers = 0

    # --- processes ------------------------------------------------------------------------------

    @initialize(
        wishes=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.0, 20.0]),
                st.sampled_from([None, None, 1.0, 15.0]),
                st.lists(st.integers(0, 99), max_size=2),
            ),
            min_size=3,
            max_size=8,
        )
    )
    def first_process(self, wishes: list[tuple[float, float | None, list[int]]]) -> None:
        """Hypothesis leaves some rules out of each example; without tasks the others would do nothing."""
        self._start()
        for number, (delay, expires_in, parents) in enumerate(wishes):
            self.submit(
                where=number,
                tenant=TENANTS[0],
                delay=delay,
                expires_in=expires_in,
                max_retries=number % 3,
                parents=parents if number else [],
                priority=TaskPriority.NORMAL,
                key=None,
            )

    @precondition(lambda self: len(self.processes) < MOST_PROCESSES)
    @rule()
    def start_process(self) -> None:
        self._start()

    def _start(self) -> Process:
        process = Process(self.store.open(num_workers=2))
        process.runtime.relay.rebuild()
        self._report(process)
        self.processes.append(process)
        return process

    @staticmethod
    def _report(process: Process) -> None:
        """As a worker does when it starts and every ten seconds."""
        record = WorkerRecord(process.runtime.worker_id, "here", 1, 0, 0, "running", {})
        process.runtime.stores.workers.report(record)

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99))
    def crash(self, which: int) -> None:
        """`kill -9`: nothing is closed in good order; the kernel gives up locks and connections."""
        process = self._process(which)
        self.processes.remove(process)
        process.is_alive = False
        process.runtime.liveness.release(process.runtime.worker_id)
        process.runtime.database.close()
        self.graveyard.append(process)
        if not self.processes:
            self._start()

    @precondition(lambda self: any(process.attempts for process in self.processes))
    @rule(which=st.integers(0, 99), other=st.integers(0, 99))
    def crash_while_working(self, which: int, other: int) -> None:
        """And another process, or the next one on this home, looks after what is left."""
        busy = [process for process in self.processes if process.attempts]
        self.crash(self.processes.index(busy[which % len(busy)]))
        self._recover(self._process(other))

    # --- callers --------------------------------------------------------------------------------

    @rule(
        where=st.integers(0, 99),
        tenant=st.sampled_from(TENANTS),
        delay=st.sampled_from([0.0, 0.0, 0.0, 0.5, 20.0, 1_000.0]),
        expires_in=st.sampled_from([None, None, 1.0, 15.0, 2_000.0]),
        max_retries=st.integers(0, 2),
        parents=st.lists(st.integers(0, 99), max_size=3),
        priority=st.sampled_from(TaskPriority),
        key=st.sampled_from([None, None, None, "k1", "k2"]),
    )
    def submit(
        self,
        where: int,
        tenant: str,
        delay: float,
        expires_in: float | None,
        max_retries: int,
        parents: list[int],
        priority: TaskPriority,
        key: str | None,
    ) -> None:
        runtime = self._submitting(where)
        on = list(dict.fromkeys(self._task(parent) for parent in parents)) if self.by_id else []
        options = SubmitOptions(
            delay=delay or None,
            expires_in=expires_in,
            max_retries=max_retries,
            priority=priority,
            depends_on=tuple(parent.task_id for parent in on),
            idempotency_key=key,
        )
        submission = Submission("job", (), {}, options)
        now = self.clock.now_us()
        [answer] = runtime.submissions.submit(tenant, [submission])
        if key is not None and (known := self.model.keys.get((tenant, key))) is not None:
            if known[0] == options:
                assert isinstance(answer, Accepted)
                assert (answer.task_id, answer.replayed) == (known[1].task_id, True)
            else:
                assert isinstance(answer, IdempotencyConflictError)
            return
        if any(parent.tenant != tenant for parent in on):
            assert isinstance(answer, UnknownDependencyError)
            return
        assert isinstance(answer, Accepted), answer
        task = self.model.submitted(
            tenant,
            answer.task_id,
            now=now,
            delay_seconds=delay,
            expires_in=expires_in,
            max_retries=max_retries,
            parents=on,
        )
        assert (answer.status, answer.run_at, answer.replayed) == (task.status, task.run_at, False)
        self.by_id[task.task_id] = task
        if key is not None:
            self.model.keys[tenant, key] = (options, task)

    @rule(where=st.integers(0, 99), count=st.integers(2, 4))
    def submit_some(self, where: int, count: int) -> None:
        """In one transaction, and so they wait side by side and are claimed together."""
        now = self.clock.now_us()
        options = SubmitOptions(max_retries=1)
        answers = self._submitting(where).submissions.submit(
            TENANTS[0], [Submission("job", (), {}, options)] * count
        )
        for answer in answers:
            assert isinstance(answer, Accepted), answer
            self.by_id[answer.task_id] = self.model.submitted(
                TENANTS[0],
                answer.task_id,
                now=now,
                delay_seconds=0.0,
                expires_in=None,
                max_retries=1,
                parents=[],
            )

    @precondition(lambda self: self.by_id)
    @rule(where=st.integers(0, 99), which=st.integers(0, 99))
    def cancel(self, where: int, which: int) -> None:
        task = self._task(which)
        try:
            self._submitting(where).tasks.cancel(task.tenant, task.task_id)
        except InvalidTransitionError:
            assert task.status in FINAL
        else:
            assert task.status not in FINAL
            self.model.cancel(task, self.clock.now_us())

    @precondition(lambda self: self.by_id)
    @rule(where=st.integers(0, 99), which=st.integers(0, 99))
    def retry(self, where: int, which: int) -> None:
        task = self._task(which)
        try:
            self._submitting(where).tasks.retry(task.tenant, task.task_id)
        except InvalidTransitionError:
            assert task.status not in FINAL
        else:
            assert task.status in FINAL
            self.model.redrive([task], self.clock.now_us(), [0.0])

    @precondition(lambda self: self.by_id)
    @rule(
        where=st.integers(0, 99),
        which=st.lists(st.integers(0, 99), min_size=1, max_size=4),
        rate=st.sampled_from([None, 0.5]),
    )
    def redrive(self, where: int, which: list[int], rate: float | None) -> None:
        """The dead letters among these tasks of one tenant, in the order of their ids."""
        tenant = self._task(which[0]).tenant
        ids = {self._task(number).task_id for number in which}
        dead = [
            task
            for task in sorted(self.model.tasks, key=lambda task: task.task_id)
            if task.task_id in ids
            and task.tenant == tenant
            and task.status is S.FAILED
            and not task.discarded
        ]
        self._submitting(where).dead_letters.redrive(
            tenant, task_ids=sorted(ids), rate_per_second=rate
        )
        delays = [number / rate if rate else 0.0 for number in range(len(dead))]
        self.model.redrive(dead, self.clock.now_us(), delays)

    @precondition(lambda self: self.by_id)
    @rule(where=st.integers(0, 99), which=st.integers(0, 99))
    def discard(self, where: int, which: int) -> None:
        task = self._task(which)
        count = self._submitting(where).dead_letters.discard(task.tenant, task_ids=[task.task_id])
        assert count == (task.status is S.FAILED and not task.discarded)
        if count:
            task.discarded = True

    # --- workers --------------------------------------------------------------------------------

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99), count=st.integers(1, 5))
    def claim(self, which: int, count: int) -> None:
        self._claim(self._process(which), count)

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99), seconds=st.sampled_from([0.0, 1.0, 16.0]))
    def claim_everything(self, which: int, seconds: float) -> None:
        """After a while; what waits in the memory of others is fetched first."""
        if seconds:
            self.advance(seconds)
        process = self._process(which)
        process.runtime.relay.run_once()
        self._claim(process, 100)

    def _claim(self, process: Process, count: int) -> list[Attempt]:
        runtime = process.runtime
        deliveries = runtime.queue.dequeue(max_messages=count, timeout_seconds=0)
        now = self.clock.now_us()
        attempts = runtime.execution.start(deliveries)
        wanted = {d.task_id for d in deliveries if self.by_id[d.task_id].is_claimable(now)}
        assert {attempt.task.task_id for attempt in attempts} == wanted
        for attempt in attempts:
            task = self.by_id[attempt.task.task_id]
            self.model.claim(task, attempt, now=now, lease_seconds=LEASE_SECONDS)
            assert attempt.task.attempt == task.attempt
            assert attempt.task.failure_count == task.failure_count
            assert attempt.task.crash_count == task.crash_count
        process.attempts += attempts
        return attempts

    @precondition(lambda self: any(process.attempts for process in self.processes))
    @rule(
        which=st.integers(0, 99),
        ends=st.lists(
            st.tuples(
                st.integers(0, 99),
                st.sampled_from(
                    ["complete", "complete", "transient", "permanent", "later", "wait", "give back"]
                ),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def finish(self, which: int, ends: list[tuple[int, str]]) -> None:
        """Some of the attempts of one process, zombies among them, in one transaction."""
        busy = [process for process in self.processes if process.attempts]
        process = busy[which % len(busy)]
        chosen: dict[Attempt, str] = {}
        for number, how in ends:
            chosen[process.attempts[number % len(process.attempts)]] = how
        self._finish(process, chosen)

    def _finish(self, process: Process, chosen: dict[Attempt, str]) -> None:
        execution = process.runtime.execution
        done: list[tuple[Attempt, Outcome]] = []
        expected: list[tuple[ModelTask, TaskStatus, dict[str, Any]]] = []
        now = self.clock.now_us()
        for attempt, how in chosen.items():
            task = self.by_id[attempt.task.task_id]
            outcome, effect = self._outcome(process, attempt, how, now)
            done.append((attempt, outcome))
            if task.owner is attempt:
                expected.append((task, outcome.status, effect))
            process.attempts.remove(attempt)
        execution.finish(done)
        self.model.finish(expected, now)

    def _outcome(
        self, process: Process, attempt: Attempt, how: str, now: int
    ) -> tuple[Outcome, dict[str, Any]]:
        """What the engine makes of this end, checked against what it should be."""
        execution, claimed = process.runtime.execution, attempt.task
        left = None if claimed.expires_at is None else (claimed.expires_at - now) / SECOND
        retries_left = claimed.failure_count < claimed.max_retries
        match how:
            case "complete":
                self.numbers += 1
                outcome = execution.succeeded(attempt, self.numbers, 1.0)
                assert outcome.status is S.COMPLETED
                return outcome, {"result": self.numbers}
            case "give back":
                outcome = execution.given_back(attempt)
                assert outcome.status is S.PENDING
                return outcome, {"attempt": claimed.attempt - 1}
            case "permanent":
                outcome = execution.failed(attempt, ValueError("never"), 1.0)
                assert outcome.status is S.FAILED
                return outcome, {"failures": 1}
            case "transient":
                outcome = execution.failed(attempt, ConnectionError("now"), 1.0)
                counts, may_follow = 1, retries_left
            case "later":
                outcome = execution.failed(attempt, Retry("later", delay=25.0), 1.0)
                counts, may_follow = 1, retries_left
            case _:
                outcome = execution.failed(attempt, Retry("wait", delay=3.0, counts=False), 1.0)
                counts, may_follow = 0, True
        delay = outcome.retry_delay_seconds
        if outcome.status is S.RETRYING:
            assert may_follow
            assert left is None or delay < left, "a retry that could not start before its deadline"
        else:
            assert outcome.status is S.FAILED
            assert not may_follow or left is not None
        return outcome, {"failures": counts, "retry_delay": delay}

    @precondition(lambda self: any(process.attempts for process in self.processes))
    @rule(which=st.integers(0, 99))
    def heartbeat(self, which: int) -> None:
        process = self._process(which)
        result = process.runtime.execution.heartbeat(process.attempts, {})
        held = [a for a in process.attempts if self.by_id[a.task.task_id].owner is a]
        process.runtime.execution.keep_hidden(held)
        for attempt in held:
            task = self.by_id[attempt.task.task_id]
            task.lease_until = self.clock.now_us() + int(LEASE_SECONDS * SECOND)
        lost = Counter(a.task.task_id for a in process.attempts if a not in held)
        cancelled = Counter(
            a.task.task_id for a in held if self.by_id[a.task.task_id].cancel_requested
        )
        assert Counter(key.task_id for key in result.lost) == lost
        assert Counter(key.task_id for key in result.cancel_requested) == cancelled

    @precondition(lambda self: self.processes and self.by_id)
    @rule(which=st.integers(0, 99), task=st.integers(0, 99), copies=st.integers(1, 3))
    def duplicate(self, which: int, task: int, copies: int) -> None:
        """A message that is delivered again, late or for a task that has ended."""
        told = self._task(task)
        message = Message(told.task_id, told.tenant, "job", 2)
        self._process(which).runtime.queue.enqueue([message] * copies)

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99), count=st.integers(1, 3))
    def lose_messages(self, which: int, count: int) -> None:
        queue = self._process(which).runtime.queue
        deliveries = queue.dequeue(max_messages=count, timeout_seconds=0)
        queue.ack([delivery.receipt for delivery in deliveries])

    # --- what happens now and then --------------------------------------------------------------

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99))
    def relay(self, which: int) -> None:
        self._process(which).runtime.relay.run_once()

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 99))
    def recover(self, which: int) -> None:
        self._recover(self._process(which))

    def _recover(self, process: Process) -> None:
        now = self.clock.now_us()
        count = process.runtime.recovery.run_once()
        dead = {id(a) for gone in self.graveyard for a in gone.attempts}
        expected, seen = [], 0
        for task in self.model.tasks:
            if task.status is not S.RUNNING:
                continue
            [stored] = process.runtime.tasks.get_many(task.tenant, [task.task_id])
            certainly = self.store.knows_the_dead and id(task.owner) in dead
            if stored.status is S.RUNNING:
                assert not certainly, "its worker is known to be dead, and nobody took it over"
                continue
            assert certainly or task.lease_until < now, "taken from a worker that holds its lease"
            seen += 1
            expected.append((task, *self._taken_over(task, now)))
        assert count == seen
        self.model.finish(expected, now)
        self.model.expire(now)  # what depends on one that came too late has failed with it by then

    @staticmethod
    def _taken_over(task: ModelTask, now: int) -> tuple[TaskStatus, dict[str, Any]]:
        if task.cancel_requested:
            return S.CANCELLED, {}
        is_too_late = task.expires_at is not None and task.expires_at <= now
        if task.crash_count + 1 >= MAX_CRASHES or is_too_late:
            return S.FAILED, {"crashes": 1}
        return S.PENDING, {"crashes": 1}

    @rule(seconds=st.sampled_from([0.01, 1.0, 11.0, 31.0, 400.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.store.moved()
        if seconds > REPORT_SECONDS:
            for process in self.processes:
                self._report(process)

    @rule(seconds=st.sampled_from([-4_000.0, -20.0, 20.0, 4_000.0]))
    def jump(self, seconds: float) -> None:
        """Somebody sets the machine's clock."""
        self.clock.jump(seconds)
        self.store.moved()

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def store_equals_model(self) -> None:
        runtime = self.submitter
        for tenant in TENANTS:
            tasks = [task for task in self.model.tasks if task.tenant == tenant]
            stored = runtime.tasks.get_many(tenant, [task.task_id for task in tasks])
            assert len(stored) == len(tasks)
            for task, found in zip(tasks, stored, strict=True):
                stored_as = (
                    found.status, found.attempt, found.failure_count, found.crash_count,
                    found.cancel_requested, found.result, _us(found.run_at), _us(found.expires_at),
                )  # fmt: skip
                expected_as = (
                    task.status, task.attempt, task.failure_count, task.crash_count,
                    task.cancel_requested, task.result, task.run_at, task.expires_at,
                )  # fmt: skip
                assert stored_as == expected_as, task.task_id
                assert (found.finished_at is not None) == (task.status in FINAL)
            counts = runtime.stores.insights.counts(tenant).by_status
            expected = Counter(task.status.value for task in tasks)
            assert {status: count for status, count in counts.items() if count} == dict(expected)

    @invariant()
    def blocked_tasks_wait_for_what_they_should(self) -> None:
        with self.submitter.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT id, waits_for FROM tasks WHERE status = 'blocked'"
            ).all()
        assert {row[0]: row[1] for row in rows} == {
            task.task_id: task.waits_for for task in self.model.tasks if task.status is S.BLOCKED
        }

    def teardown(self) -> None:
        try:
            if self.by_id:
                self._nothing_waits_for_ever()
                self._histories_follow_the_table()
        finally:
            for process in self.processes:
                process.runtime.close()
            self.submitter.close()
            self.store.close()

    def _nothing_waits_for_ever(self) -> None:
        """Left alone, with one process that works, everything ends."""
        if not self.processes:
            self._start()
        process = self.processes[0]
        for turn in range(_TURNS):
            process.runtime.relay.run_once()
            self._recover(process)
            while process.attempts or self._claim(process, 100):
                self._finish(process, dict.fromkeys(process.attempts, "complete"))
            if all(task.status in FINAL for task in self.model.tasks):
                break
            self.advance(min(2.0**turn, 20_000.0))
        else:
            waiting = [task for task in self.model.tasks if task.status not in FINAL]
            raise AssertionError(f"these wait for ever: {waiting}")
        self.store_equals_model()
        assert process.runtime.stores.outbox.due(limit=1) == []

    def _histories_follow_the_table(self) -> None:
        for task in self.model.tasks:
            possible: set[TaskStatus | None] = {None}
            history = self.submitter.tasks.history(task.tenant, task.task_id)
            for event in history:
                targets = _LEADS_TO.get(event.type)
                if targets is not None:
                    possible = {
                        target
                        for target in targets
                        if any(target in TRANSITIONS[before] for before in possible)
                    }
                assert possible, [e.type for e in history]
            assert task.status in possible, [e.type for e in history]

    # --- inside ---------------------------------------------------------------------------------

    def _process(self, which: int) -> Process:
        return self.processes[which % len(self.processes)]

    def _submitting(self, where: int) -> Runtime:
        """Any process, one without workers among them."""
        runtimes = [self.submitter, *(process.runtime for process in self.processes)]
        return runtimes[where % len(runtimes)]

    def _task(self, which: int) -> ModelTask:
        return self.model.tasks[which % len(self.model.tasks)]


def _us(moment: Any) -> int | None:
    return None if moment is None else round(moment.timestamp() * SECOND)
