"""The trace that a submission belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("task_inputs", sa.Column("traceparent", sa.Text))
