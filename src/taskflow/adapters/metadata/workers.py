"""WorkerStore: who is working."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import TEXT, batch_table, batch_text
from taskflow.adapters.metadata.database import Database
from taskflow.core.jsontext import dumps
from taskflow.ports.metadata import WorkerRecord


class SqlWorkers:
    def __init__(self, database: Database) -> None:
        self._database = database
        w = schema.workers
        insert = database.insert(w).values(
            {column.name: sa.bindparam(f"p_{column.name}") for column in w.c}
        )
        self._report = database.prepare(
            insert.on_conflict_do_update(
                index_elements=[w.c.id],
                set_={
                    name: insert.excluded[name]
                    for name in ("seen_at", "status", "details", "hostname", "pid")
                },
            )
        )
        batch = batch_table(database, {"id": TEXT})
        self._forget = database.prepare(w.delete().where(w.c.id.in_(sa.select(batch.c.id))))

    def report(self, record: WorkerRecord) -> None:
        with self._database.write() as tx:
            tx.run(
                self._report,
                p_id=record.worker_id,
                p_hostname=record.hostname,
                p_pid=record.pid,
                p_started_at=tx.now,
                p_seen_at=tx.now,
                p_status=record.status,
                p_details=dumps(dict(record.details)),
            )

    def list(self) -> list[WorkerRecord]:
        w = schema.workers
        with self._database.read() as connection:
            rows = connection.execute(sa.select(w).order_by(w.c.started_at, w.c.id)).all()
        return [
            WorkerRecord(
                r.id, r.hostname, r.pid, r.started_at, r.seen_at, r.status, orjson.loads(r.details)
            )
            for r in rows
        ]

    def forget(self, worker_ids: Sequence[str]) -> None:
        if worker_ids:
            with self._database.write() as tx:
                tx.run(self._forget, batch=batch_text([[worker_id] for worker_id in worker_ids]))
