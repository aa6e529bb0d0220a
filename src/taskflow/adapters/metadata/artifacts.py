"""ArtifactStore: the names, sizes and payload keys of what handlers left with their tasks."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

import sqlalchemy as sa

from taskflow.adapters.metadata import schema
from taskflow.adapters.metadata.batch import TEXT
from taskflow.adapters.metadata.database import Database
from taskflow.adapters.metadata.schema import Id
from taskflow.adapters.metadata.statuses import one_of
from taskflow.adapters.metadata.transaction import Transaction
from taskflow.core.errors import InvalidRequestError, LeaseLostError, TaskFlowError
from taskflow.core.task import TaskStatus
from taskflow.ports.metadata import NewArtifact, StoredArtifact, TaskKey


class SqlArtifacts:
    def __init__(self, database: Database) -> None:
        self._database = database
        t, a = schema.tasks, schema.task_artifacts
        tenant, task = sa.bindparam("tenant", type_=TEXT), sa.bindparam("task", type_=Id)
        lease = sa.select(t.c.lease_token).where(
            t.c.tenant_id == tenant, t.c.id == task, one_of(t.c.status, [TaskStatus.RUNNING])
        )
        # Locked, so that the task can neither end nor get a second artifact of the same name meanwhile.
        self._lease = database.prepare_rows(
            lease if database.is_sqlite else lease.with_for_update(of=t, key_share=True)
        )
        self._present = database.prepare_rows(
            sa.select(a.c.name, a.c.artifact_key).where(
                a.c.tenant_id == tenant, a.c.task_id == task
            )
        )
        insert = database.insert(a).values(
            {column.name: sa.bindparam(f"p_{column.name}") for column in a.c}
        )
        keys = {column.name for column in a.primary_key}
        self._write = database.prepare(
            insert.on_conflict_do_update(
                index_elements=list(a.primary_key),
                set_={c.name: insert.excluded[c.name] for c in a.c if c.name not in keys},
            )
        )
        self._of_task = database.prepare_rows(
            sa.select(
                t.c.id,
                a.c.name,
                a.c.artifact_key,
                a.c.size_bytes,
                a.c.content_type,
                a.c.attempt,
                a.c.created_at,
            )
            .select_from(t)
            .join(a, sa.and_(a.c.tenant_id == t.c.tenant_id, a.c.task_id == t.c.id), isouter=True)
            .where(t.c.tenant_id == tenant, t.c.id == task)
        )

    def add(
        self, artifacts: Sequence[NewArtifact], *, most: int
    ) -> builtins.list[str | TaskFlowError | None]:
        with self._database.write() as tx:
            return [self._add(tx, artifact, most) for artifact in artifacts]

    def list(self, key: TaskKey) -> builtins.list[StoredArtifact] | None:
        rows = self._database.read_rows(self._of_task, tenant=key.tenant_id, task=key.task_id)
        if not rows:
            return None
        return sorted(StoredArtifact(*row[1:]) for row in rows if row[1] is not None)

    def _add(self, tx: Transaction, artifact: NewArtifact, most: int) -> str | TaskFlowError | None:
        task = {"tenant": artifact.tenant_id, "task": artifact.task_id}
        if [row[0] for row in tx.rows(self._lease, **task)] != [artifact.lease_token]:
            return LeaseLostError(
                f"artifact {artifact.name}: attempt {artifact.attempt} is no longer the task's"
            )
        present = {row[0]: str(row[1]) for row in tx.rows(self._present, **task)}
        if artifact.name not in present and len(present) >= most:
            return InvalidRequestError(
                f"artifact {artifact.name}: the task has {len(present)} already (TASKFLOW_MAX_ARTIFACTS)"
            )
        tx.run(
            self._write,
            p_tenant_id=artifact.tenant_id,
            p_task_id=artifact.task_id,
            p_name=artifact.name,
            p_artifact_key=artifact.artifact_key,
            p_size_bytes=artifact.size_bytes,
            p_content_type=artifact.content_type,
            p_attempt=artifact.attempt,
            p_created_at=tx.now,
        )
        return present.get(artifact.name)
