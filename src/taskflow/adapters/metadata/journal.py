"""What every transition writes beside the status: events, results, outbox rows and tallies."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import (
    ID,
    INTEGER,
    NUMBER,
    TEXT,
    PreparedInsert,
    batch_table,
    batch_text,
    insert,
    insert_from,
)
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.events import EventType
from taskflow.ports.metadata import OutboxEntry, TaskKey
from taskflow.ports.queue import Message

_SHARDS = 16
_MOST_SHARDS = 32_767  # of those, below zero, whose rows a caller's transaction may hold for long
_MICROSECONDS = 1_000_000
SENDING_SECONDS = 3.0  # in which who wrote a message has sent it, or is taken to have died
MESSAGE_SECONDS = 0.01  # more for each: SQS may take a tenth of a second for ten
_HOUR_US = 3_600 * _MICROSECONDS


class NewEvent(NamedTuple):
    tenant_id: str
    task_id: str
    type: EventType
    attempt: int | None
    data: str | None  # a JSON object


class NewResult(NamedTuple):
    tenant_id: str
    task_id: str
    result: str | None
    result_key: str | None
    error: str | None


class Tally(NamedTuple):
    """A task that ended (or, redriven or purged, no longer counts): ``by`` is +1 or -1."""

    tenant_id: str
    finished_at: int
    task: str
    status: str
    duration_ms: float
    by: int = 1


class Details(NamedTuple):
    """What a message says about its task beside what is in the outbox."""

    timeout_seconds: float
    traceparent: str | None


UNKNOWN = Details(0.0, None)  # of a task that has been deleted


class Send(NamedTuple):
    """A message wanted at ``due_at``. ``details`` None: to be looked up if the message is sent now."""

    tenant_id: str
    task_id: str
    task: str
    priority: int
    due_at: int
    details: Details | None = None


class Journal:
    """Writes into the transaction of whoever changes a status."""

    def __init__(self, database: Database, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._shard = random.randrange(_SHARDS)
        self._insert_events = insert_from(
            database,
            schema.events,
            {
                "tenant_id": TEXT,
                "task_id": ID,
                "type": TEXT,
                "at": INTEGER,
                "attempt": INTEGER,
                "data": TEXT,
            },
        )
        self._insert_outbox = insert_from(
            database,
            schema.outbox,
            {
                "id": ID,
                "tenant_id": TEXT,
                "task_id": ID,
                "task": TEXT,
                "priority": INTEGER,
                "due_at": INTEGER,
                "leased_until": INTEGER,
            },
        )
        results = {
            "tenant_id": TEXT,
            "task_id": ID,
            "result": TEXT,
            "result_key": TEXT,
            "error": TEXT,
        }
        self._upsert_results = insert_from(database, schema.task_results, results, key=2)
        keys = batch_table(database, {"tenant_id": TEXT, "task_id": ID})
        table = schema.task_results
        self._delete_results = database.prepare(
            table.delete().where(
                sa.tuple_(table.c.tenant_id, table.c.task_id).in_(
                    sa.select(keys.c.tenant_id, keys.c.task_id)
                )
            )
        )
        self._result_keys = database.prepare_rows(
            sa.select(table.c.result_key)
            .select_from(keys)
            .join(
                table,
                sa.and_(table.c.tenant_id == keys.c.tenant_id, table.c.task_id == keys.c.task_id),
            )
            .where(table.c.result_key.is_not(None))
        )
        self._unsend = database.prepare(_unsend(database))
        self._add_tallies = add_tallies(database)
        t, i = schema.tasks, schema.task_inputs
        self._details = database.prepare_rows(
            sa.select(t.c.tenant_id, t.c.id, t.c.timeout_seconds, i.c.traceparent)
            .select_from(keys)
            .join(t, sa.and_(t.c.tenant_id == keys.c.tenant_id, t.c.id == keys.c.task_id))
            .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        )

    def events(self, tx: Transaction, events: Sequence[NewEvent]) -> None:
        if events:
            now = tx.now
            rows = [(e.tenant_id, e.task_id, e.type, now, e.attempt, e.data) for e in events]
            insert(tx, self._insert_events, rows)

    def results(self, tx: Transaction, results: Sequence[NewResult]) -> None:
        if results:
            insert(tx, self._upsert_results, results)

    def forget_results(self, tx: Transaction, keys: Sequence[TaskKey]) -> list[str]:
        """Returns the payload keys that belonged to them."""
        if not keys:
            return []
        batch = batch_text(keys)
        payloads = [row[0] for row in tx.rows(self._result_keys, batch=batch)]
        tx.run(self._delete_results, batch=batch)
        return payloads

    def tally(self, tx: Transaction, ended: Iterable[Tally]) -> None:
        """At the end of the transaction: whoever finishes a task wants the same few rows."""
        tx.at_end(self._tally, ended)

    def _tally(self, tx: Transaction, ended: Sequence[Tally]) -> None:
        counts: Counter[tuple[str, int, str, str]] = Counter()
        durations: dict[tuple[str, int, str, str], float] = {}
        for tenant_id, finished_at, task, status, duration_ms, by in ended:
            key = (tenant_id, finished_at // _HOUR_US, task, status)
            counts[key] += by
            durations[key] = durations.get(key, 0.0) + by * duration_ms
        shard = -random.randint(1, _MOST_SHARDS) if tx.is_callers else self._shard
        # Sorted, so that concurrent transactions take the row locks in one order.
        rows = [(*key[:4], shard, count, durations[key]) for key, count in sorted(counts.items())]
        if rows:
            insert(tx, self._add_tallies, rows)

    def send(
        self,
        tx: Transaction,
        wanted: Sequence[Send],
        *,
        max_queue_delay_seconds: float,
        outbox: bool,
    ) -> list[OutboxEntry]:
        """Outbox rows where they are needed; returns what to send as soon as the transaction has committed.

        ``outbox``: every message needs a row. Otherwise only those that the queue cannot hold long enough do. The row
        of a message that the caller sends is leased for a while: in the middle of a large batch relays would send what
        is being sent. ``max_queue_delay_seconds`` 0: the caller does not send.
        """
        now = tx.now
        horizon = now + max_queue_delay_seconds * _MICROSECONDS
        count = sum(send.due_at <= horizon for send in wanted)
        leased_until = now + int((SENDING_SECONDS + count * MESSAGE_SECONDS) * _MICROSECONDS)
        rows: list[tuple[str, str, str, str, int, int, int]] = []
        to_send: list[OutboxEntry] = []
        found: Mapping[TaskKey, Details] = {}
        # A queue that is rebuilt from the store has no use for them.
        if outbox and max_queue_delay_seconds > 0:
            found = self.details(
                tx,
                [
                    TaskKey(send.tenant_id, send.task_id)
                    for send in wanted
                    if send.details is None and send.due_at <= horizon
                ],
            )
        for tenant_id, task_id, task, priority, due_at, known in wanted:
            near = due_at <= horizon
            entry_id: str | None = None
            if outbox or not near:
                entry_id = self._new_id()
                is_sent = near and max_queue_delay_seconds > 0
                until = leased_until if is_sent else 0
                rows.append((entry_id, tenant_id, task_id, task, priority, due_at, until))
            if near:
                delay = max(0, due_at - now) / _MICROSECONDS
                details = known or found.get(TaskKey(tenant_id, task_id), UNKNOWN)
                message = Message(task_id, tenant_id, task, priority, delay, *details)
                to_send.append(OutboxEntry(message, entry_id))
        if rows:
            insert(tx, self._insert_outbox, rows)
        return to_send

    def unsend(self, tx: Transaction, ended: Iterable[tuple[TaskKey, int]]) -> None:
        """Forget the messages of tasks that have ended, each with its ``run_at``, before they were due. What is due is
        sent, and then forgotten, anyway: this costs nothing for tasks that did not wait for a moment."""
        early = [(*key, run_at) for key, run_at in ended if run_at > tx.now]
        if early:
            tx.run(self._unsend, batch=batch_text(early))

    def details(self, tx: Transaction, keys: Sequence[TaskKey]) -> dict[TaskKey, Details]:
        """Of those that still exist."""
        if not keys:
            return {}
        rows = tx.rows(self._details, batch=batch_text(keys))
        return {TaskKey(row[0], row[1]): Details(row[2], row[3]) for row in rows}


def _unsend(database: Database) -> sa.Delete:
    """By the moment when they are due, which has an index: that of a task that waits is its ``run_at``."""
    o = schema.outbox
    batch = batch_table(database, {"tenant_id": TEXT, "task_id": ID, "due_at": INTEGER})
    those = sa.and_(*(o.c[column.name] == column for column in batch.c))
    chosen = sa.select(o.c.id).select_from(batch).join(o, those)
    if not database.is_sqlite:
        # What a relay holds it is about to send and delete. Nobody waits for a row of the outbox with a task locked.
        chosen = chosen.with_for_update(of=o, skip_locked=True)
    return o.delete().where(o.c.id.in_(chosen))


def add_tallies(database: Database) -> PreparedInsert:
    """A batch of rows of the table, added to those that are there."""
    columns = {
        "tenant_id": TEXT, "hour": INTEGER, "task": TEXT, "status": TEXT, "shard": INTEGER,
        "count": INTEGER, "duration_ms": NUMBER,
    }  # fmt: skip
    return insert_from(database, schema.tallies, columns, key=5, add=True)
