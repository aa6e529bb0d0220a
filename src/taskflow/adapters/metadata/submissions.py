"""SubmissionStore: accepted tasks, their keys, tags and dependencies, written in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.callers_transaction import CallersTransactions
from taskflow.adapters.metadata.certainty import until_known
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.idempotency import IdempotencyKeys, Key, conflict, key_of
from taskflow.adapters.metadata.new_tasks import NewRow, NewTasks, new_row
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import QueueFullError, TaskFlowError
from taskflow.core.submission import Accepted, NewTask
from taskflow.core.task import WAITING, TaskStatus
from taskflow.ports.metadata import InsertResult, StartNow, TaskKey

# How much of the room that was counted may be filled before it is counted again: others fill it, too.
_SHARE_OF_ROOM = 8
# For transactions that are taking the same keys: those of other processes, which are short, or of a caller.
_KEYS_WAIT_SECONDS = 0.1  # with others that need not wait
_KEY_WAIT_SECONDS = 1.0  # alone

_Answers = list[Accepted | TaskFlowError | None]


class SqlSubmissions:
    def __init__(self, database: Database, new_tasks: NewTasks) -> None:
        self._database = database
        self._new_tasks = new_tasks
        self._keys = IdempotencyKeys(database)
        self._callers = CallersTransactions(database)
        self._headroom = 0  # tasks that certainly still fit; counted again when it is used up
        self._parents = database.prepare_rows(_parents(database))
        t = schema.tasks
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
            return self._insert(
                tx,
                tasks,
                answers,
                max_queue_delay_seconds=max_queue_delay_seconds,
                outbox=outbox,
                start=None if outbox else start,
                wait_seconds=_KEY_WAIT_SECONDS if len(tasks) == 1 else _KEYS_WAIT_SECONDS,
            )

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
        start: StartNow | None = None,
        wait_seconds: float | None = None,
    ) -> InsertResult:
        """Those that have no answer yet. ``wait_seconds``: for their keys."""
        rows = self._rows(tx, tasks, answers)
        if any(row.new.idempotency_key is not None for row in rows):
            rows = self._take_keys(tx, tasks, answers, rows, wait_seconds)
        entries, started = self._new_tasks.write(
            tx,
            rows,
            max_queue_delay_seconds=max_queue_delay_seconds,
            outbox=outbox,
            start=start,
        )
        for index, task in enumerate(tasks):
            if answers[index] is None:  # pragma: no cover - `_rows` answers whatever has none
                raise AssertionError(f"submission {task.id} was left without an answer")
        ended = [
            TaskKey(row.new.tenant_id, row.new.id)
            for row in rows
            if row.status == TaskStatus.FAILED
        ]
        accepted = [answer for answer in answers if answer is not None]
        return InsertResult(accepted, entries, ended, started)

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

    def _rows(self, tx: Transaction, tasks: Sequence[NewTask], answers: _Answers) -> list[NewRow]:
        """What is to be written. Answers all that have no answer yet."""
        now = tx.now
        states = self._parent_states(tx, tasks, answers)
        rows: list[NewRow] = []
        first_of_key: dict[Key, tuple[NewTask, Accepted]] = {}
        for index, task in enumerate(tasks):
            if answers[index] is not None:
                continue
            key = key_of(task)
            if key is not None and (first := first_of_key.get(key)) is not None:
                same = first[0].request_hash == task.request_hash
                answers[index] = first[1]._replace(replayed=True) if same else conflict(task)
                continue
            row = new_row(task, now, states)
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
        self,
        tx: Transaction,
        tasks: Sequence[NewTask],
        answers: _Answers,
        rows: list[NewRow],
        wait_seconds: float | None,
    ) -> list[NewRow]:
        """Returns the rows that have got their keys, or need none."""
        keyed = {key: row.new.id for row in rows if (key := key_of(row.new)) is not None}
        new = [row.new for row in rows if row.new.idempotency_key is not None]
        if self._keys.take(tx, new, wait_seconds=wait_seconds):
            return rows
        # Another process took some of them since `_replay` looked (PostgreSQL only: SQLite has one
        # writer). All that asked for these keys in this call are answered with that process's task.
        owners = self._keys.owners(tx, tasks)
        lost = {key for key, task_id in keyed.items() if owners[key].task_id != task_id}
        for index, task in enumerate(tasks):
            if (key := key_of(task)) is not None and key in lost:
                answers[index] = owners[key].answer(task)
        return [row for row in rows if key_of(row.new) not in lost]


def _parents(database: Database) -> sa.Select[Any]:
    t = schema.tasks
    batch = batch_table(database, {"tenant_id": TEXT, "id": ID})
    statement = sa.select(t.c.tenant_id, t.c.id, t.c.status).join(
        batch, sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id)
    )
    # Locked, so that a parent cannot end between this look and the commit without seeing its new dependent. It can be
    # claimed and kept meanwhile (`execution_statements.py`): only what ends a task locks it FOR UPDATE.
    return (
        statement
        if database.is_sqlite
        else statement.order_by(t.c.tenant_id, t.c.id).with_for_update(
            of=t, read=True, key_share=True
        )
    )
