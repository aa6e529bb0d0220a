"""PostgreSQL: room for new versions of rows that change, and a vacuum that keeps up with them (13 or newer)."""

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


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table, storage in _STORAGE.items():
            op.execute(f"ALTER TABLE {table} SET ({storage})")
