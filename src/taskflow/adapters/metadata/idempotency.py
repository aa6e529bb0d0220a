"""Idempotency keys: who has which, and what a repeated submission is answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.contention import lock_timeout
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import IdempotencyConflictError
from taskflow.core.submission import Accepted, NewTask


class Key(NamedTuple):
    tenant_id: str
    key: str


class Owner(NamedTuple):
    """The task that has a key."""

    task_id: str
    request_hash: str
    status: str
    created_at: int
    run_at: int

    def answer(self, task: NewTask) -> Accepted | IdempotencyConflictError:
        """What ``task`` gets, which came later with the same key."""
        if self.request_hash == task.request_hash:
            return Accepted(self.task_id, self.status, self.created_at, self.run_at, replayed=True)
        return conflict(task)


class IdempotencyKeys:
    """Inside the transaction that stores the tasks."""

    def __init__(self, database: Database) -> None:
        self._is_sqlite = database.is_sqlite
        self._insert = database.prepare(_insert(database))
        self._owners = database.prepare_rows(_owners(database))

    def owners(self, tx: Transaction, tasks: Iterable[NewTask]) -> dict[Key, Owner]:
        """Of those keys of ``tasks`` that are taken."""
        keys = {key for task in tasks if (key := key_of(task)) is not None}
        rows = tx.rows(self._owners, batch=batch_text(sorted(keys)))
        return {Key(row[0], row[1]): Owner(*row[2:]) for row in rows}

    def take(
        self, tx: Transaction, tasks: Sequence[NewTask], *, wait_seconds: float | None
    ) -> bool:
        """Give each of ``tasks`` its key, where it is free. Returns whether all of them were.

        On PostgreSQL this waits for transactions that are taking one of them; in one order, so that two of these do
        not wait for each other. After ``wait_seconds`` (None: however long it takes) it raises StoreLockedError.
        """
        rows = sorted((*key, task.id, task.request_hash) for task in tasks if (key := key_of(task)))
        with lock_timeout(tx, None if self._is_sqlite else wait_seconds):
            taken = tx.run(self._insert, batch=batch_text(rows))
        return taken == len(rows)


def key_of(task: NewTask) -> Key | None:
    return None if task.idempotency_key is None else Key(task.tenant_id, task.idempotency_key)


def conflict(task: NewTask) -> IdempotencyConflictError:
    return IdempotencyConflictError(
        f"idempotency key {task.idempotency_key!r} was used before with another request",
        fields=[{"field": "idempotency_key", "message": "was used before with another request"}],
    )


def _insert(database: Database) -> sa.sql.dml.Insert:
    columns = {"tenant_id": TEXT, "key": TEXT, "task_id": ID, "request_hash": TEXT}
    batch = batch_table(database, columns)
    # SQLite's grammar needs a WHERE between SELECT and ON CONFLICT.
    insert = database.insert(schema.idempotency_keys).from_select(
        list(columns), sa.select(batch).where(sa.true())
    )
    statement: sa.sql.dml.Insert = insert.on_conflict_do_nothing()
    return statement


def _owners(database: Database) -> sa.Select[Any]:
    keys, t = schema.idempotency_keys, schema.tasks
    batch = batch_table(database, {"tenant_id": TEXT, "key": TEXT})
    return (
        sa.select(
            keys.c.tenant_id,
            keys.c.key,
            keys.c.task_id,
            keys.c.request_hash,
            t.c.status,
            t.c.created_at,
            t.c.run_at,
        )
        .select_from(batch)
        .join(keys, sa.and_(keys.c.tenant_id == batch.c.tenant_id, keys.c.key == batch.c.key))
        .join(t, sa.and_(t.c.tenant_id == keys.c.tenant_id, t.c.id == keys.c.task_id), isouter=True)
    )
