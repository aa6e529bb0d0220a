"""The rows of accepted tasks: what a task is in the store before anything has happened to it, or as it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, INTEGER, NUMBER, TEXT, insert, insert_from
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import DEPENDENCY_FAILED, failed_dependency
from taskflow.adapters.metadata.journal import Details, Journal, NewEvent, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import UnknownDependencyError
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.submission import NewTask
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import ClaimedTask, OutboxEntry, StartNow

_MICROSECONDS = 1_000_000
_PENDING, _SCHEDULED, _BLOCKED, _FAILED, _RUNNING = (
    TaskStatus.PENDING.value,
    TaskStatus.SCHEDULED.value,
    TaskStatus.BLOCKED.value,
    TaskStatus.FAILED.value,
    TaskStatus.RUNNING.value,
)
_UNSUCCESSFUL = frozenset(
    {TaskStatus.FAILED.value, TaskStatus.CANCELLED.value, TaskStatus.EXPIRED.value}
)


class NewRow(NamedTuple):
    new: NewTask
    status: str
    run_at: int
    expires_at: int | None
    waits_for: int
    failed_parent: str | None

    def may_start(self, now: int) -> bool:
        return self.status == _PENDING and (self.expires_at is None or self.expires_at > now)


def new_row(
    task: NewTask, now: int, states: Mapping[tuple[str, str], str]
) -> NewRow | UnknownDependencyError:
    """``states``: of all tasks that it may depend on."""
    run_at = task.run_at
    if run_at is None:
        run_at = now + int(task.delay_seconds * _MICROSECONDS)
    expires_at = task.expires_at
    if expires_at is None and task.expires_in_seconds is not None:
        expires_at = now + int(task.expires_in_seconds * _MICROSECONDS)
    status, waits_for, failed_parent = (_SCHEDULED if run_at > now else _PENDING), 0, None
    if task.depends_on:
        parents = {parent: states.get((task.tenant_id, parent)) for parent in task.depends_on}
        if missing := [parent for parent, state in parents.items() if state is None]:
            return UnknownDependencyError(
                f"depends_on: there is no task {missing[0]}",
                fields=[{"field": "depends_on", "message": f"no task {p}"} for p in missing],
            )
        waits_for = sum(state != TaskStatus.COMPLETED for state in parents.values())
        failed_parent = next((p for p, state in parents.items() if state in _UNSUCCESSFUL), None)
        if waits_for:
            status = _FAILED if failed_parent else _BLOCKED
    return NewRow(task, status, run_at, expires_at, waits_for, failed_parent)


class NewTasks:
    """Writes rows, with all that belongs to them, into an open transaction."""

    def __init__(self, database: Database, journal: Journal, new_token: Callable[[], int]) -> None:
        self._journal = journal
        self._new_token = new_token
        t = schema.tasks
        columns = {
            "tenant_id": TEXT, "id": ID, "task": TEXT, "name": TEXT, "status": TEXT, "priority": INTEGER,
            "max_retries": INTEGER, "timeout_seconds": NUMBER, "run_at": INTEGER, "expires_at": INTEGER,
            "created_at": INTEGER, "finished_at": INTEGER, "waits_for": INTEGER, "fingerprint": TEXT,
        }  # fmt: skip
        self._insert_tasks = insert_from(database, t, columns)
        lease = {
            "attempt": INTEGER, "started_at": INTEGER, "lease_token": INTEGER, "lease_until": INTEGER,
            "worker_id": TEXT,
        }  # fmt: skip
        self._insert_started = insert_from(database, t, columns | lease)
        inputs = {
            "tenant_id": TEXT, "task_id": ID, "arguments": TEXT, "input_key": TEXT, "metadata": TEXT,
            "tags": TEXT, "depends_on": TEXT, "idempotency_key": TEXT, "request_id": TEXT,
            "traceparent": TEXT,
        }  # fmt: skip
        self._insert_inputs = insert_from(database, schema.task_inputs, inputs)
        self._insert_tags = insert_from(
            database, schema.task_tags, {"tenant_id": TEXT, "tag": TEXT, "task_id": ID}
        )
        self._insert_dependencies = insert_from(
            database,
            schema.task_dependencies,
            {"tenant_id": TEXT, "depends_on": ID, "task_id": ID},
        )

    def write(
        self,
        tx: Transaction,
        rows: Sequence[NewRow],
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
        start: StartNow | None = None,
    ) -> tuple[list[OutboxEntry], list[ClaimedTask]]:
        """What is to be sent, and what of ``start`` is running now."""
        if not rows:
            return [], []
        now = tx.now
        task_rows, input_rows, sends, events = [], [], [], []
        tags: list[tuple[str, str, str]] = []
        dependencies: list[tuple[str, str, str]] = []
        failed: list[NewRow] = []
        starting: list[NewRow] = []
        wanted = set(start.keys) if start is not None else ()
        for row in rows:
            new, status, run_at = row.new, row.status, row.run_at
            tenant_id, task_id = new.tenant_id, new.id
            events.append(NewEvent(tenant_id, task_id, EventType.SUBMITTED, None, None))
            tags_text = depends_on_text = None
            if new.tags:
                own_tags = sorted(set(new.tags))
                tags += [(tenant_id, tag, task_id) for tag in own_tags]
                tags_text = dumps(own_tags)
            if new.depends_on:
                parents = list(dict.fromkeys(new.depends_on))
                dependencies += [(tenant_id, parent, task_id) for parent in parents]
                depends_on_text = dumps(parents)
            input_rows.append(
                (tenant_id, task_id, new.arguments, new.input_key, new.metadata, tags_text, depends_on_text,
                 new.idempotency_key, new.request_id, new.traceparent)
            )  # fmt: skip
            if wanted and (tenant_id, task_id) in wanted and row.may_start(now):
                starting.append(row)
                continue
            task_rows.append(_task_row(row, status, now))
            if status == _FAILED:
                failed.append(row)
            elif status != _BLOCKED:
                details = Details(new.timeout_seconds, new.traceparent)
                sends.append(Send(tenant_id, task_id, new.task, new.priority, run_at, details))
        if task_rows:
            insert(tx, self._insert_tasks, task_rows)
        insert(tx, self._insert_inputs, input_rows)
        started: list[ClaimedTask] = []
        if start is not None and starting:
            started = self._write_started(tx, starting, start, events)
        self._journal.events(tx, events)
        if tags:
            insert(tx, self._insert_tags, tags)
        if dependencies:
            insert(tx, self._insert_dependencies, dependencies)
        if failed:
            self._write_failed(tx, failed)
        to_send = self._journal.send(
            tx, sends, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
        )
        return to_send, started

    def _write_started(
        self,
        tx: Transaction,
        starting: Sequence[NewRow],
        start: StartNow,
        events: list[NewEvent],
    ) -> list[ClaimedTask]:
        """As if they had been claimed right after they were stored (`SqlClaims`). Appends to ``events``."""
        now, token = tx.now, self._new_token()
        until = now + int(start.lease_seconds * _MICROSECONDS)
        lease = (1, now, token, until, start.worker_id)
        insert(
            tx,
            self._insert_started,
            [(*_task_row(row, _RUNNING, now), *lease) for row in starting],
        )
        data = dumps({"worker_id": start.worker_id})
        events += [
            NewEvent(row.new.tenant_id, row.new.id, EventType.STARTED, 1, data) for row in starting
        ]
        return [_claimed(row, now, token) for row in starting]

    def _write_failed(self, tx: Transaction, rows: Iterable[NewRow]) -> None:
        results = [
            failed_dependency(r.new.tenant_id, r.new.id, parent=r.failed_parent or "") for r in rows
        ]
        self._journal.results(tx, results)
        self._journal.events(
            tx,
            [
                NewEvent(r.tenant_id, r.task_id, EventType.FAILED, None, f'{{"error":{r.error}}}')
                for r in results
            ],
        )
        self._journal.tally(
            tx, [Tally(r.new.tenant_id, tx.now, r.new.task, _FAILED, 0.0) for r in rows]
        )


def _task_row(row: NewRow, status: str, now: int) -> tuple[object, ...]:
    new, ended = row.new, status == _FAILED
    return (
        new.tenant_id, new.id, new.task, new.name, status, new.priority, new.max_retries, new.timeout_seconds,
        row.run_at, row.expires_at, now, now if ended else None, row.waits_for,
        DEPENDENCY_FAILED if ended else None,
    )  # fmt: skip


def _claimed(row: NewRow, now: int, token: int) -> ClaimedTask:
    new = row.new
    return ClaimedTask(
        tenant_id=new.tenant_id,
        task_id=new.id,
        task=new.task,
        priority=new.priority,
        attempt=1,
        failure_count=0,
        crash_count=0,
        max_retries=new.max_retries,
        timeout_seconds=new.timeout_seconds,
        expires_at=row.expires_at,
        created_at=now,
        run_at=row.run_at,
        started_at=now,
        arguments=new.arguments,
        input_key=new.input_key,
        metadata=new.metadata,
        request_id=new.request_id,
        traceparent=new.traceparent,
        lease_token=token,
    )
