"""The doctor: compares store, queue and payload files, repairs what is safe, and says what it did.

Everything here may run beside live servers. A repair is safe when it only does again what TaskFlow does by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from taskflow.core.errors import (
    PayloadCorruptError,
    PayloadMissingError,
    StoreUnavailableError,
    TaskFlowError,
)
from taskflow.ports.clock import Clock
from taskflow.ports.inspection import InspectionStore
from taskflow.ports.liveness import Liveness
from taskflow.ports.metadata import (
    ExecutionStore,
    OutboxStore,
    TaskKey,
    WorkerRecord,
    WorkerStore,
)
from taskflow.ports.payloads import PayloadStore
from taskflow.ports.queue import Message

_US = 1_000_000
_LIMIT = 10_000  # of tasks looked at or repaired in one run
_BATCH = 500
_EXAMPLES = 5
_AT_ONCE = 8  # payloads in memory at the same time
_LIVE_SECONDS = 60.0
_LEASE_GRACE_SECONDS = 60.0  # workers take lost tasks over within seconds
_WAITING_SECONDS = 300.0
_ORPHAN_SECONDS = 3_600.0
_CLOCK_SECONDS = 60.0
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Health(StrEnum):
    OK = "ok"
    REPAIRED = "repaired"
    WARNING = "warning"  # works, but somebody should look
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``advice``: how to repair it, if it needs a person or ``fix``."""

    check: str
    health: Health
    message: str
    count: int = 0
    advice: str | None = None
    examples: tuple[str, ...] = ()


class Doctor:
    """``surroundings`` are further checks (of the file system, say), each called with whether to repair."""

    def __init__(
        self,
        inspection: InspectionStore,
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
        self._payloads = payloads
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
        yield self._clock_check()
        yield self._abandoned_tasks(fix)
        yield self._forgotten_tasks(fix)
        if self._long_task_seconds:
            yield self._unserved_tasks()
        yield self._dependencies(fix)
        yield self._unknown_handlers()
        yield self._unfinished_payloads(fix)
        yield self._missing_payloads()
        yield self._orphaned_payloads(fix)

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
            tuple(damage[:_EXAMPLES]),
        )

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
        examples = tuple(message.task_id for message in overdue[:_EXAMPLES])
        if not fix:
            return Finding(
                "queue",
                Health.WARNING,
                message,
                len(overdue),
                "--fix announces them again",
                examples,
            )
        for start in range(0, len(overdue), _BATCH):
            self._outbox.add(overdue[start : start + _BATCH])
        return Finding("queue", Health.REPAIRED, f"{message}; announced again", len(overdue))

    def _unserved_tasks(self) -> Finding:
        """Of one kind, long or not, while there are workers for the other. None at all: they may all be on Lambda."""
        workers = self._live_workers()
        unserved = [m for m in self._overdue() if workers and not self._servers(m, workers)]
        if not unserved:
            return Finding("long tasks", Health.OK, "no task waits in queues that nobody serves")
        kind = "long" if self._is_long(unserved[0]) else "ordinary"
        return Finding(
            "long tasks",
            Health.WARNING,
            f"{_tasks(len(unserved))} due for {_WAITING_SECONDS / 60:.0f} minutes wait in queues that no running "
            "worker serves",
            len(unserved),
            f"start a worker with TASKFLOW_WORKER_QUEUES={kind} or all",
            tuple(message.task_id for message in unserved[:_EXAMPLES]),
        )

    def _overdue(self) -> list[Message]:
        return self._inspection.unannounced(seconds=_WAITING_SECONDS, limit=_LIMIT)

    def _is_long(self, message: Message) -> bool:
        return 0 < self._long_task_seconds < message.timeout_seconds

    def _servers(self, message: Message, workers: Sequence[WorkerRecord]) -> list[WorkerRecord]:
        """Those of ``workers`` that take from its queue."""
        if not self._long_task_seconds:
            return list(workers)
        kinds = ("all", "long" if self._is_long(message) else "ordinary")
        return [worker for worker in workers if worker.details.get("queues", "all") in kinds]

    def _live_workers(self) -> list[WorkerRecord]:
        since = self._clock.now_us() - _LIVE_SECONDS * _US
        recent = [w for w in self._workers.list() if w.seen_at > since and w.status == "running"]
        dead = self._liveness.dead([worker.worker_id for worker in recent])
        return [worker for worker in recent if worker.worker_id not in dead]

    def _dependencies(self, fix: bool) -> Finding:
        wrong = self._inspection.wrongly_blocked(limit=_LIMIT)
        if not wrong:
            return Finding("dependencies", Health.OK, "every blocked task waits for what it should")
        message = f"{_tasks(len(wrong))} blocked wait for something that will not happen"
        examples = tuple(key.task_id for key in wrong[:_EXAMPLES])
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
            self._inspection.unblock(wrong[start : start + _BATCH])
            for start in range(0, len(wrong), _BATCH)
        )
        return Finding(
            "dependencies", Health.REPAIRED, f"{message}; {repaired} repaired", len(wrong)
        )

    def _unknown_handlers(self) -> Finding:
        """A worker that gets such a task fails it: what is known nowhere should be noticed before."""
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
            "name the modules that register them in TASKFLOW_TASKS, or cancel them: a worker would fail them",
            tuple(f"{task} ({unknown[task]})" for task in sorted(unknown)[:_EXAMPLES]),
        )

    def _unfinished_payloads(self, fix: bool) -> Finding:
        try:
            found = self._payloads.unfinished(remove=fix)
        except StoreUnavailableError as exc:
            return Finding(
                "temporary files", Health.WARNING, f"cannot be looked at: {exc.detail}", 1
            )
        if not found:
            return Finding("temporary files", Health.OK, "no unfinished file was left behind")
        message = f"{len(found)} unfinished files were left behind by processes that died"
        if fix:
            return Finding("temporary files", Health.REPAIRED, f"{message}; deleted", len(found))
        return Finding(
            "temporary files",
            Health.WARNING,
            message,
            len(found),
            "--fix deletes them",
            tuple(found[:_EXAMPLES]),
        )

    def _missing_payloads(self) -> Finding:
        lost: list[str] = []
        checked = 0
        for keys in self._inspection.payload_keys(batch=_BATCH):
            checked += len(keys)
            for start in range(0, len(keys), _AT_ONCE):
                lost += self._lost_among(keys[start : start + _AT_ONCE])
        lost = self._still_referenced(lost)
        if not lost:
            return Finding(
                "payloads", Health.OK, f"all {checked} stored payloads are there and intact"
            )
        return Finding(
            "payloads",
            Health.PROBLEM,
            f"{len(lost)} of {checked} payloads that tasks refer to are missing or damaged",
            len(lost),
            "put the files back from a copy of the home; tasks whose arguments are lost fail when they are run",
            tuple(lost[:_EXAMPLES]),
        )

    def _lost_among(self, keys: Sequence[str]) -> list[str]:
        """Read together first, which on S3 is several times as fast as one by one."""
        try:
            self._payloads.get(keys)
        except (PayloadMissingError, PayloadCorruptError):
            if len(keys) == 1:
                return list(keys)
            return [lost for key in keys for lost in self._lost_among([key])]
        return []

    def _still_referenced(self, keys: Sequence[str]) -> list[str]:
        """Without those whose task was purged or redriven while we looked."""
        owned = {key: owner for key in keys if (owner := _owner(key)) is not None}
        uses = self._inspection.payload_uses(list(set(owned.values()))) if owned else {}
        return [
            key
            for key in keys
            if key not in owned or ((use := uses.get(owned[key])) is not None and key in use.keys)
        ]

    def _orphaned_payloads(self, fix: bool) -> Finding:
        orphans: list[str] = []
        keys = self._payloads.list()
        while batch := list(islice(keys, _BATCH)):
            orphans += self._orphans_among(batch)
        if not orphans:
            return Finding("orphans", Health.OK, "no payload is left over")
        count = len(orphans)
        message = f"{count} payloads belong to no task any more"
        if not fix:
            return Finding(
                "orphans",
                Health.WARNING,
                message,
                count,
                "--fix deletes them",
                tuple(orphans[:_EXAMPLES]),
            )
        for start in range(0, count, _BATCH):
            self._payloads.delete(orphans[start : start + _BATCH])
        return Finding("orphans", Health.REPAIRED, f"{message}; deleted", count)

    def _orphans_among(self, keys: Sequence[str]) -> list[str]:
        """Keys no row refers to nor may come to refer to: a payload is stored before its row is written, so those
        of tasks that are not final, and of submissions younger than an hour, are left alone."""
        owned = {key: owner for key in keys if (owner := _owner(key)) is not None}
        uses = self._inspection.payload_uses(list(set(owned.values()))) if owned else {}
        before_ms = self._clock.now_us() / 1_000 - _ORPHAN_SECONDS * 1_000
        orphans = []
        for key, owner in owned.items():
            use = uses.get(owner)
            if use is None:
                if int(owner.task_id.replace("-", "")[:12], 16) < before_ms:  # UUIDv7: milliseconds
                    orphans.append(key)
            elif use.final and key not in use.keys:
                orphans.append(key)
        return orphans


def _owner(key: str) -> TaskKey | None:
    """The task a payload key was made for (`services/payloads.py`); None for keys of another making."""
    tenant_id, _, rest = key.partition("/")
    match = _UUID7.search(rest)
    return TaskKey(tenant_id, match[0]) if match else None


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
