"""Artifacts of tasks: which files there are; the bytes are in the payload store."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

_ID = sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql")


def upgrade() -> None:
    op.create_table(
        "task_artifacts",
        sa.Column("tenant_id", sa.Text, primary_key=True, nullable=False),
        sa.Column("task_id", _ID, primary_key=True, nullable=False),
        sa.Column("name", sa.Text, primary_key=True, nullable=False),
        sa.Column("artifact_key", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        # As in 0001: what ANALYZE would find in a large store.
        op.bulk_insert(
            sa.table("sqlite_stat1", *(sa.column(name) for name in ("tbl", "idx", "stat"))),
            [{"tbl": "task_artifacts", "idx": "task_artifacts", "stat": "50000 50000 3 1"}],
        )
        op.execute("ANALYZE sqlite_schema")  # reads it
