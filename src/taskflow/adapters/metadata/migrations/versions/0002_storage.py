"""An index of dead letters. PostgreSQL (13 or newer): room for new versions of rows, and a vacuum that keeps up."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# Vacuum by absolute numbers where a table is small and busy: a share of it would come too late or too often. Where
# tables only grow it is the visibility map that matters, which counting and paging by index alone rely on.
_STORAGE = {
    "tasks": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02, "
    "autovacuum_vacuum_cost_limit = 2000",
    "outbox": "fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_vacuum_cost_limit = 2000",
    "tallies": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500",
    "workers": "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200",
    "task_inputs": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02, "
    "autovacuum_analyze_scale_factor = 0.02",
    "task_results": "fillfactor = 95, autovacuum_vacuum_scale_factor = 0.02, "
    "autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02",
    "events": "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02, "
    "autovacuum_analyze_scale_factor = 0.02",
}


_DEAD_LETTERS = sa.text("finished_at IS NOT NULL AND status = 'failed' AND discarded = 0")


def upgrade() -> None:
    op.create_index(
        "ix_tasks_dead_letters",
        "tasks",
        ["tenant_id", "fingerprint", "id", "task", "finished_at"],
        sqlite_where=_DEAD_LETTERS,
        postgresql_where=_DEAD_LETTERS,
    )
    if op.get_bind().dialect.name == "postgresql":
        for table, storage in _STORAGE.items():
            op.execute(f"ALTER TABLE {table} SET ({storage})")
    else:  # as the others' (0001)
        op.execute(
            "INSERT INTO sqlite_stat1 VALUES ('tasks', 'ix_tasks_dead_letters', '20000 20000 1000 1 1 1')"
        )
        op.execute("ANALYZE sqlite_schema")
