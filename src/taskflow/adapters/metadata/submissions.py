"""SubmissionStore: accepted tasks, their keys, tags and dependencies, written in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import (
    ID,
    INTEGER,
    NUMBER,
    TEXT,
    batch_table,
    batch_text,
    insert,
    insert_from,
)
from taskflow.adapters.metadata.callers_transaction import CallersTransactions
from taskflow.adapters.metadata.certainty import until_known
from taskflow.adapters.metadata.claims import SqlClaims
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.dependents import DEPENDENCY_FAILED, failed_dependency
from taskflow.adapters.metadata.idempotency import IdempotencyKeys, Key, conflict, key_of
from taskflow.adapters.metadata.journal import Details, Journal, NewEvent, Send, Tally
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import (
    QueueFullError,
    TaskFlowError,
    UnknownDependencyError,
)
from taskflow.core.events import EventType
from taskflow.core.jsontext import dumps
from taskflow.core.submission import Accepted, NewTask
from taskflow.core.task import WAITING, TaskStatus
from taskflow.ports.metadata import InsertResult, OutboxEntry, StartNow, TaskKey

_MICROSECONDS = 1_000_000
# How much of the room that was counted may be filled before it is counted again: others fill it, too.
_SHARE_OF_ROOM = 8
_PENDING, _SCHEDULED, _BLOCKED, _FAILED = (
    TaskStatus.PENDING.value,
    TaskStatus.SCHEDULED.value,
    TaskStatus.BLOCKED.value,
    TaskStatus.FAILED.value,
)


_Answers = list[Accepted | TaskFlowError | None]


class _Row(NamedTuple):
    new: NewTask
    status: str
    run_at: int
    expires_at: int | None
    waits_for: int
    failed_parent: str | None


class SqlSubmissions:
    def __init__(self, database: Database, journal: Journal, claims: SqlClaims) -> None:
        self._database = database
        self._journal = journal
        self._claims = claims
        self._keys = IdempotencyKeys(database)
        self._callers = CallersTransactions(database)
        self._headroom = 0  # tasks that certainly still fit; counted again when it is used up
        t = schema.tasks
        columns = {
            "tenant_id": TEXT, "id": ID, "task": TEXT, "name": TEXT, "status": TEXT, "priority": INTEGER,
            "max_retries": INTEGER, "timeout_seconds": NUMBER, "run_at": INTEGER, "expires_at": INTEGER,
            "created_at": INTEGER, "finished_at": INTEGER, "waits_for": INTEGER, "fingerprint": TEXT,
        }  # fmt: skip
        self._insert_tasks = insert_from(database, t, columns)
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
        self._parents = database.prepare_rows(_parents(database))
        waiting: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
            t.c.finished_at.is_(None),
            t.c.status.in_([sa.literal_column(f"'{s.value}'") for s in sorted(WAITING)]),
        )
        self._count_waiting = database.prepare_rows(
            sa.select(sa.func.count().label("n")).select_from(
                waiting.limit(sa.bindparam("most", type_=sa.Integer)).subquery()
            )
        )

    def insert(
        self,
        tasks: Sequence[NewTask],
        *,
        max_waiting: int,
        max_queue_delay_seconds: float,
        outbox: bool,
        start: StartNow | None = None,
    ) -> InsertResult:
        def write(tx: Transaction) -> InsertResult:
            answers: _Answers = [None] * len(tasks)
            if any(task.idempotency_key is not None for task in tasks):
                self._replay(tx, tasks, answers)
            if max_waiting:
                self._headroom = self._admit(tx, tasks, answers, max_waiting, self._headroom)
            result = self._insert(
                tx, tasks, answers, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
            )
            return result if start is None or outbox else self._start(tx, result, start)

        return until_known(
            self._database, write, lambda tx, result: self._is_stored(tx, tasks, result)
        )

    def insert_within(
        self, connection: object, tasks: Sequence[NewTask], *, max_waiting: int
    ) -> InsertResult:
        answers: _Answers = [None] * len(tasks)
        with self._callers.join(connection) as tx:
            if any(task.idempotency_key is not None for task in tasks):
                self._replay(tx, tasks, answers)
            if max_waiting:
                self._admit(tx, tasks, answers, max_waiting, 0)
            # Nobody here learns of the commit: every message has to be in the outbox.
            return self._insert(tx, tasks, answers, max_queue_delay_seconds=0.0, outbox=True)

    def _insert(
        self,
        tx: Transaction,
        tasks: Sequence[NewTask],
        answers: _Answers,
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> InsertResult:
        """Those that have no answer yet."""
        rows = self._rows(tx, tasks, answers)
        if any(row.new.idempotency_key is not None for row in rows):
            rows = self._take_keys(tx, tasks, answers, rows)
        entries = self._write(
            tx, rows, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
        )
        for index, task in enumerate(tasks):
            if answers[index] is None:  # pragma: no cover - `_rows` answers whatever has none
                raise AssertionError(f"submission {task.id} was left without an answer")
        ended = [TaskKey(row.new.tenant_id, row.new.id) for row in rows if row.status == _FAILED]
        accepted = [answer for answer in answers if answer is not None]
        return InsertResult(accepted, entries, ended, [])

    def _start(self, tx: Transaction, result: InsertResult, start: StartNow) -> InsertResult:
        wanted = set(start.keys)
        keys = [key for entry in result.to_send if (key := _key_of(entry)) in wanted]
        if not keys:
            return result
        claimed = self._claims.claim_in(
            tx, keys, worker_id=start.worker_id, lease_seconds=start.lease_seconds
        ).tasks
        running = {TaskKey(task.tenant_id, task.task_id) for task in claimed}
        to_send = [entry for entry in result.to_send if _key_of(entry) not in running]
        return result._replace(to_send=to_send, started=claimed)

    def _is_stored(self, tx: Transaction, tasks: Sequence[NewTask], result: InsertResult) -> bool:
        """Whether the transaction that made ``result`` has been committed: all of it, or nothing."""
        for task, answer in zip(tasks, result.answers, strict=True):
            if isinstance(answer, Accepted) and not answer.replayed and answer.task_id == task.id:
                key = batch_text([(task.tenant_id, task.id)])
                return bool(tx.rows(self._parents, batch=key))
        return True  # there was nothing to be written

    # --- who gets in ----------------------------------------------------------------------------

    def _replay(self, tx: Transaction, tasks: Sequence[NewTask], answers: _Answers) -> None:
        """Answer submissions whose idempotency key is already taken."""
        owners = self._keys.owners(tx, tasks)
        for index, task in enumerate(tasks):
            key = key_of(task)
            owner = owners.get(key) if key is not None else None
            # Its own: this very call has been committed before, unanswered. Written again it clashes with itself.
            if owner is not None and owner.task_id != task.id:
                answers[index] = owner.answer(task)

    def _admit(
        self,
        tx: Transaction,
        tasks: Sequence[NewTask],
        answers: _Answers,
        most: int,
        headroom: int,
    ) -> int:
        """Refuses what does not fit. ``headroom``: what certainly does; returned is what does after these."""
        counted = sum(answer is None for answer in answers) > headroom
        if counted:
            [[waiting]] = tx.rows(self._count_waiting, most=most)
            headroom = most - waiting
        seen: set[Key] = set()
        for index, task in enumerate(tasks):
            key = key_of(task)
            if answers[index] is not None or key in seen:
                continue  # the repetition of a key makes no task of its own
            if headroom <= 0:
                answers[index] = QueueFullError(
                    f"{most} tasks are waiting already (TASKFLOW_MAX_QUEUE_SIZE); try again later",
                    retry_after_seconds=1.0,
                )
                continue
            headroom -= 1
            if key is not None:
                seen.add(key)
        return headroom // _SHARE_OF_ROOM if counted else headroom

    def _rows(self, tx: Transaction, tasks: Sequence[NewTask], answers: _Answers) -> list[_Row]:
        """What is to be written. Answers all that have no answer yet."""
        now = tx.now
        states = self._parent_states(tx, tasks, answers)
        rows: list[_Row] = []
        first_of_key: dict[Key, tuple[NewTask, Accepted]] = {}
        for index, task in enumerate(tasks):
            if answers[index] is not None:
                continue
            key = key_of(task)
            if key is not None and (first := first_of_key.get(key)) is not None:
                same = first[0].request_hash == task.request_hash
                answers[index] = first[1]._replace(replayed=True) if same else conflict(task)
                continue
            row = _row(task, now, states)
            if isinstance(row, TaskFlowError):
                answers[index] = row
                continue
            rows.append(row)
            states[task.tenant_id, task.id] = row.status
            answers[index] = accepted = Accepted(task.id, row.status, now, row.run_at)
            if key is not None:
                first_of_key[key] = (task, accepted)
        return rows

    def _parent_states(
        self, tx: Transaction, tasks: Sequence[NewTask], answers: _Answers
    ) -> dict[tuple[str, str], str]:
        wanted = [
            (task.tenant_id, parent)
            for task, answer in zip(tasks, answers, strict=True)
            if answer is None and task.depends_on
            for parent in task.depends_on
        ]
        if not wanted:
            return {}
        rows = tx.rows(self._parents, batch=batch_text(wanted))
        return {(tenant_id, task_id): status for tenant_id, task_id, status in rows}

    def _take_keys(
        self, tx: Transaction, tasks: Sequence[NewTask], answers: _Answers, rows: list[_Row]
    ) -> list[_Row]:
        """Returns the rows that have got their keys, or need none."""
        keyed = {key: row.new.id for row in rows if (key := key_of(row.new)) is not None}
        if self._keys.take(tx, [row.new for row in rows if row.new.idempotency_key is not None]):
            return rows
        # Another process took some of them since `_replay` looked (PostgreSQL only: SQLite has one
        # writer). All that asked for these keys in this call are answered with that process's task.
        owners = self._keys.owners(tx, tasks)
        lost = {key for key, task_id in keyed.items() if owners[key].task_id != task_id}
        for index, task in enumerate(tasks):
            if (key := key_of(task)) is not None and key in lost:
                answers[index] = owners[key].answer(task)
        return [row for row in rows if key_of(row.new) not in lost]

    # --- what is written ------------------------------------------------------------------------

    def _write(
        self, tx: Transaction, rows: Sequence[_Row], *, max_queue_delay_seconds: float, outbox: bool
    ) -> list[OutboxEntry]:
        if not rows:
            return []
        now = tx.now
        task_rows, input_rows, sends, events = [], [], [], []
        tags: list[tuple[str, str, str]] = []
        dependencies: list[tuple[str, str, str]] = []
        failed: list[_Row] = []
        for row in rows:
            new, status, run_at, expires_at, waits_for, _ = row
            tenant_id, task_id = new.tenant_id, new.id
            ended = status == _FAILED
            task_rows.append(
                (tenant_id, task_id, new.task, new.name, status, new.priority, new.max_retries, new.timeout_seconds,
                 run_at, expires_at, now, now if ended else None, waits_for, DEPENDENCY_FAILED if ended else None)
            )  # fmt: skip
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
            if ended:
                failed.append(row)
            elif status != _BLOCKED:
                details = Details(new.timeout_seconds, new.traceparent)
                sends.append(Send(tenant_id, task_id, new.task, new.priority, run_at, details))
        insert(tx, self._insert_tasks, task_rows)
        insert(tx, self._insert_inputs, input_rows)
        self._journal.events(tx, events)
        if tags:
            insert(tx, self._insert_tags, tags)
        if dependencies:
            insert(tx, self._insert_dependencies, dependencies)
        if failed:
            self._write_failed(tx, failed)
        return self._journal.send(
            tx, sends, max_queue_delay_seconds=max_queue_delay_seconds, outbox=outbox
        )

    def _write_failed(self, tx: Transaction, rows: Iterable[_Row]) -> None:
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


def _key_of(entry: OutboxEntry) -> TaskKey:
    return TaskKey(entry.message.tenant_id, entry.message.task_id)


_UNSUCCESSFUL = frozenset(
    {TaskStatus.FAILED.value, TaskStatus.CANCELLED.value, TaskStatus.EXPIRED.value}
)


def _row(
    task: NewTask, now: int, states: Mapping[tuple[str, str], str]
) -> _Row | UnknownDependencyError:
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
    return _Row(task, status, run_at, expires_at, waits_for, failed_parent)


def _parents(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, {"tenant_id": TEXT, "id": ID})
    statement = sa.select(t.c.tenant_id, t.c.id, t.c.status).join(
        batch, sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id)
    )
    # Locked, so that a parent cannot end between this look and the commit without seeing its new dependent.
    return (
        statement
        if database.is_sqlite
        else statement.order_by(t.c.tenant_id, t.c.id).with_for_update(of=t, read=True)
    )
