"""RetentionStore: final tasks are deleted with all that belongs to them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import ID, TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.journal import Journal, Tally
from taskflow.core.ids import first_id

# The task itself last.
_OF_A_TASK = (
    (schema.events, "task_id"),
    (schema.task_tags, "task_id"),
    (schema.task_dependencies, "task_id"),
    (schema.task_dependencies, "depends_on"),
    (schema.task_artifacts, "task_id"),
    (schema.task_results, "task_id"),
    (schema.task_inputs, "task_id"),
    (schema.tasks, "id"),
)


class SqlRetention:
    def __init__(self, database: Database, journal: Journal) -> None:
        self._database = database
        self._journal = journal
        t, a, k = schema.tasks, schema.task_artifacts, schema.idempotency_keys
        batch = batch_table(database, {"tenant_id": TEXT, "id": ID})
        ended = (
            sa.select(t.c.tenant_id, t.c.id, t.c.finished_at)
            .select_from(batch)
            .join(t, sa.and_(t.c.tenant_id == batch.c.tenant_id, t.c.id == batch.c.id))
        )
        self._ended = database.prepare_rows(
            ended if database.is_sqlite else ended.with_for_update(of=t, skip_locked=True)
        )
        self._artifact_keys = database.prepare_rows(
            sa.select(a.c.artifact_key).join(
                batch, sa.and_(a.c.tenant_id == batch.c.tenant_id, a.c.task_id == batch.c.id)
            )
        )
        self._delete = [
            database.prepare(
                table.delete().where(
                    sa.tuple_(table.c.tenant_id, table.c[column]).in_(
                        sa.select(batch.c.tenant_id, batch.c.id)
                    )
                )
            )
            for table, column in _OF_A_TASK
        ]
        keys = batch_table(database, {"tenant_id": TEXT, "key": TEXT})
        self._delete_keys = database.prepare(
            k.delete().where(
                sa.tuple_(k.c.tenant_id, k.c.key).in_(sa.select(keys.c.tenant_id, keys.c.key))
            )
        )

    def purge(self, *, finished_before: int, limit: int) -> tuple[int, list[str]]:
        """Walks each tenant's oldest tasks, so it needs no index on ``finished_at``. A task is not found as long as the
        clock that made its id was ahead of the database's."""
        found = self._find(finished_before, limit)
        if not found:
            return 0, []
        with self._database.write() as tx:
            # Looked at again under the lock: a task may have been redriven since. What a transaction holds in which
            # somebody submits a task that depends on it has time.
            batch = batch_text([(row.tenant_id, row.id) for row in found])
            still = {tuple(row) for row in tx.rows(self._ended, batch=batch)}
            rows = [row for row in found if (row.tenant_id, row.id, row.finished_at) in still]
            batch = batch_text([(row.tenant_id, row.id) for row in rows])
            payloads = [key for (key,) in tx.rows(self._artifact_keys, batch=batch)]
            for statement in self._delete:
                tx.run(statement, batch=batch)
            if keyed := [
                (row.tenant_id, row.idempotency_key)
                for row in rows
                if row.idempotency_key is not None
            ]:
                tx.run(self._delete_keys, batch=batch_text(keyed))
            self._journal.tally(
                tx,
                [
                    Tally(r.tenant_id, r.finished_at, r.task, r.status, r.duration_ms or 0.0, -1)
                    for r in rows
                ],
            )
        payloads += [
            key for row in rows for key in (row.input_key, row.result_key) if key is not None
        ]
        return len(rows), payloads

    def _find(self, finished_before: int, limit: int) -> list[Any]:
        rows: list[Any] = []
        with self._database.read() as connection:
            tenants = connection.scalars(sa.select(schema.tallies.c.tenant_id).distinct()).all()
            for tenant in tenants:
                oldest = _oldest(tenant, finished_before, limit - len(rows))
                rows += connection.execute(oldest).all()
                if len(rows) >= limit:
                    break
        return rows


def _oldest(tenant_id: str, finished_before: int, limit: int) -> sa.Select[Any]:
    t, i, r = schema.tasks, schema.task_inputs, schema.task_results
    return (
        sa.select(
            t.c.tenant_id,
            t.c.id,
            t.c.task,
            t.c.status,
            t.c.finished_at,
            t.c.duration_ms,
            i.c.idempotency_key,
            i.c.input_key,
            r.c.result_key,
        )
        .join(i, sa.and_(i.c.tenant_id == t.c.tenant_id, i.c.task_id == t.c.id))
        .join(r, sa.and_(r.c.tenant_id == t.c.tenant_id, r.c.task_id == t.c.id), isouter=True)
        .where(
            t.c.tenant_id == tenant_id,
            # Nothing finished before it was created: this ends the walk, and nearly always before its first step.
            t.c.id < first_id(finished_before // 1_000),
            t.c.finished_at < finished_before,
        )
        .order_by(t.c.id)
        .limit(limit)
    )
