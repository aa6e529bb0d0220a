"""The doctor: compares store, queue and payload files, repairs what is safe, and says what it did.

Everything here may run beside live servers. A repair is safe when it only does again what TaskFlow does by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from taskflow.core.errors import StoreUnavailableError, TaskFlowError
from taskflow.core.task import TaskPriority
from taskflow.ports.clock import Clock
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.liveness import Liveness
from taskflow.ports.metadata import (
    ExecutionStore,
    MaintenanceStore,
    OutboxStore,
    WorkerRecord,
    WorkerStore,
)
from taskflow.ports.payloads import PayloadStore
from taskflow.ports.queue import Message
from taskflow.services.finding import BATCH, EXAMPLES, Finding, Health
from taskflow.services.payload_checks import PayloadChecks

_US = 1_000_000
_LIMIT = 10_000  # of tasks looked at or repaired in one run
_LEASE_GRACE_SECONDS = 60.0  # workers take lost tasks over within seconds
_WAITING_SECONDS = 300.0
_CLOCK_SECONDS = 60.0


class Doctor:
    """``surroundings`` are further checks (of the file system, say), each called with whether to repair."""

    def __init__(
        self,
        inspection: InspectionStore,
        maintenance: MaintenanceStore,
        outbox: OutboxStore,
        workers: WorkerStore,
        execution: ExecutionStore,
        payloads: PayloadStore,
        liveness: Liveness,
        clock: Clock,
        *,
        recover: Callable[[], int],
        long_task_seconds: float = 0.0,
        registered: Callable[[], Collection[str]] = tuple,
        surroundings: Sequence[Callable[[bool], Finding]] = (),
    ) -> None:
        self._inspection = inspection
        self._outbox = outbox
        self._workers = workers
        self._execution = execution
        self._maintenance = maintenance
        self._payloads = PayloadChecks(inspection, maintenance, payloads, clock)
        self._liveness = liveness
        self._clock = clock
        self._recover = recover
        self._long_task_seconds = long_task_seconds
        self._registered = registered
        self._surroundings = surroundings

    def examine(self, *, fix: bool = False) -> Iterator[Finding]:
        """One finding per check, as they are made, good news included. ``fix``: repair what is safe.

        A store that is damaged or of another version ends the examination: nothing it says could be relied on.
        """
        for surrounding in self._surroundings:
            yield surrounding(fix)
        for vital in (self._schema, self._damage):
            finding = vital()
            yield finding
            if finding.health is Health.PROBLEM:
                return
        yield self._writable()
        yield self._clock_check()
        yield self._abandoned_tasks(fix)
        yield self._forgotten_tasks(fix)
        yield self._unserved_tasks()
        yield self._dependencies(fix)
        yield self._unknown_handlers()
        yield self._payloads.unfinished(fix)
        yield self._payloads.missing()
        yield self._payloads.orphaned(fix)

    def _schema(self) -> Finding:
        try:
            revision = self._inspection.schema_revision()
        except TaskFlowError as exc:
            return Finding("schema", Health.PROBLEM, exc.detail, 1)
        return Finding("schema", Health.OK, f"the store has schema {revision}, as it should")

    def _damage(self) -> Finding:
        damage = self._inspection.damage()
        if not damage:
            return Finding("integrity", Health.OK, "the database is sound")
        return Finding(
            "integrity",
            Health.PROBLEM,
            "the database file is damaged",
            len(damage),
            "stop all processes, keep a copy of the file, and `taskflow restore` the last backup into a new home",
            tuple(damage[:EXAMPLES]),
        )

    def _writable(self) -> Finding:
        try:
            self._maintenance.ping()
        except StoreUnavailableError as exc:
            return Finding("store", Health.PROBLEM, exc.detail, 1)
        return Finding("store", Health.OK, "the database can be written to")

    def _clock_check(self) -> Finding:
        newest = self._inspection.newest_event_at()
        ahead = 0.0 if newest is None else (newest - self._clock.now_us()) / _US
        if ahead <= _CLOCK_SECONDS:
            return Finding("clock", Health.OK, "the clock is not behind what was written last")
        return Finding(
            "clock",
            Health.PROBLEM,
            f"the newest event is {ahead:.0f} s in the future: the clock was set back, or another machine's is ahead",
            1,
            "set the clock (NTP); tasks submitted meanwhile wait until it has caught up",
        )

    def _abandoned_tasks(self, fix: bool) -> Finding:
        """Live workers take them over by themselves, and know what else the dead one had in its queue."""
        count = self._count_abandoned()
        if not count:
            return Finding("leases", Health.OK, "no running task was left behind by its worker")
        message = f"{_tasks(count)} of dead workers still count as running"
        if self._live_workers():
            return Finding(
                "leases",
                Health.WARNING,
                message,
                count,
                "the running workers take them over within a minute",
            )
        if fix:
            self._recover()
            left = self._count_abandoned()
            if not left:
                return Finding(
                    "leases", Health.REPAIRED, f"{message}; all are pending again", count
                )
            message = (
                f"{_tasks(left)} of workers that are not known to be dead still count as running"
            )
        return Finding(
            "leases", Health.WARNING, message, count, "the next worker that starts takes them over"
        )

    def _count_abandoned(self) -> int:
        dead = self._liveness.dead([worker.worker_id for worker in self._workers.list()])
        before = self._clock.now_us() - _LEASE_GRACE_SECONDS * _US
        lost = self._execution.lost(dead_workers=dead, limit=_LIMIT)
        return sum(task.worker_id in dead or task.lease_until < before for task in lost)

    def _forgotten_tasks(self, fix: bool) -> Finding:
        """Without a live worker, waiting is no sign of anything: the queue is filled when one starts."""
        workers = [w for w in self._live_workers() if int(w.details.get("idle", 0)) > 0]
        overdue = [message for message in self._overdue() if self._servers(message, workers)]
        if not overdue:
            return Finding("queue", Health.OK, "no task that is due was forgotten")
        minutes = _WAITING_SECONDS / 60
        message = (
            f"{_tasks(len(overdue))} due for {minutes:.0f} minutes wait, though workers are idle"
        )
        examples = tuple(message.task_id for message in overdue[:EXAMPLES])
        if not fix:
            return Finding(
                "queue",
                Health.WARNING,
                message,
                len(overdue),
                "--fix announces them again",
                examples,
            )
        for start in range(0, len(overdue), BATCH):
            self._outbox.add(overdue[start : start + BATCH])
        return Finding("queue", Health.REPAIRED, f"{message}; announced again", len(overdue))

    def _unserved_tasks(self) -> Finding:
        """By the workers that run. None at all: they may all be on Lambda."""
        workers = self._live_workers()
        unserved = [m for m in self._overdue() if workers and not self._servers(m, workers)]
        if not unserved:
            return Finding("workers", Health.OK, "no task waits that no running worker serves")
        first = unserved[0]
        priority = TaskPriority(first.priority).name.lower()
        queues = (
            f", TASKFLOW_WORKER_QUEUES={self._kind(first)} or all"
            if self._long_task_seconds
            else ""
        )
        return Finding(
            "workers",
            Health.WARNING,
            f"{_tasks(len(unserved))} due for {_WAITING_SECONDS / 60:.0f} minutes wait that no running worker serves",
            len(unserved),
            f"start a worker that serves, for the first of them, the task {first.task} and the priority {priority} "
            f"(TASKFLOW_WORKER_TASKS, TASKFLOW_WORKER_PRIORITIES{queues})",
            tuple(message.task_id for message in unserved[:EXAMPLES]),
        )

    def _overdue(self) -> list[Message]:
        return self._inspection.unannounced(seconds=_WAITING_SECONDS, limit=_LIMIT)

    def _kind(self, message: Message) -> str:
        return "long" if 0 < self._long_task_seconds < message.timeout_seconds else "ordinary"

    def _servers(self, message: Message, workers: Sequence[WorkerRecord]) -> list[WorkerRecord]:
        """Those of ``workers`` that take it, as far as they say what they take."""
        kinds = ("all", self._kind(message))
        return [
            worker
            for worker in workers
            if (not self._long_task_seconds or worker.details.get("queues", "all") in kinds)
            and message.task in worker.details.get("tasks", (message.task,))
            and message.priority in worker.details.get("priorities", (message.priority,))
        ]

    def _live_workers(self) -> list[WorkerRecord]:
        now = self._clock.now_us()
        recent = [w for w in self._workers.list() if w.seen_from(now).status == "running"]
        dead = self._liveness.dead([worker.worker_id for worker in recent])
        return [worker for worker in recent if worker.worker_id not in dead]

    def _dependencies(self, fix: bool) -> Finding:
        wrong = self._inspection.wrongly_blocked(limit=_LIMIT)
        if not wrong:
            return Finding("dependencies", Health.OK, "every blocked task waits for what it should")
        message = f"{_tasks(len(wrong))} blocked wait for something that will not happen"
        examples = tuple(key.task_id for key in wrong[:EXAMPLES])
        if not fix:
            return Finding(
                "dependencies",
                Health.PROBLEM,
                message,
                len(wrong),
                "--fix lets them go on, or fail",
                examples,
            )
        repaired = sum(
            self._inspection.unblock(wrong[start : start + BATCH])
            for start in range(0, len(wrong), BATCH)
        )
        return Finding(
            "dependencies", Health.REPAIRED, f"{message}; {repaired} repaired", len(wrong)
        )

    def _unknown_handlers(self) -> Finding:
        """Workers warn of such a task once and leave it in the queue, so it waits for as long as nobody notices."""
        known = set(self._registered())
        for worker in self._live_workers():
            known.update(worker.details.get("tasks", ()))
        unknown = {
            task: count
            for task, count in self._inspection.unfinished_by_task().items()
            if task not in known
        }
        if not unknown:
            return Finding("handlers", Health.OK, "every task that waits or runs has a handler")
        count = sum(unknown.values())
        return Finding(
            "handlers",
            Health.WARNING,
            f"{_tasks(count)} have a handler that is registered neither here nor by a running worker",
            count,
            "name the modules that register them in TASKFLOW_TASKS, or cancel them: until then they wait",
            tuple(f"{task} ({unknown[task]})" for task in sorted(unknown)[:EXAMPLES]),
        )


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
