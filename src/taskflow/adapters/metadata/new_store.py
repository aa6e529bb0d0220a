"""A new SQLite store: the tables as they are now, at once.

Alembic would make them migration by migration, and takes longer to be imported than everything else about a start. Both
ways lead to the same store: tests/contract/metadata/test_new_store.py.
"""

from __future__ import annotations

import sqlalchemy as sa

from taskflow.adapters.metadata import schema

# What ANALYZE finds in a large store: rows, then rows for each value of an index's first column, of the first two, …
# Without, SQLite's planner walks all tasks of a tenant where an index has the twenty that are wanted.
_STATISTICS = (
    ("tasks", "tasks", "1000000 1000000 1"),
    ("tasks", "ix_tasks_task", "1000000 1000000 50000 1"),
    ("tasks", "ix_tasks_active", "50000 15000 4000 2 1 1"),
    ("tasks", "ix_tasks_expiring", "10000 2"),
    ("tasks", "ix_tasks_unsuccessful", "50000 50000 20000 1"),
    ("tasks", "ix_tasks_dead_letters", "20000 20000 1000 1 1 1"),
    ("task_inputs", "task_inputs", "1000000 1000000 1"),
    ("task_results", "task_results", "1000000 1000000 1"),
    ("task_artifacts", "task_artifacts", "50000 50000 3 1"),
    ("task_dependencies", "task_dependencies", "50000 50000 2 1"),
    ("task_dependencies", "ix_task_dependencies_task", "50000 50000 2"),
    ("task_tags", "task_tags", "50000 50000 500 1"),
    ("task_tags", "ix_task_tags_task", "50000 50000 2"),
    ("idempotency_keys", "idempotency_keys", "100000 100000 1"),
    ("events", "ix_events_task", "3000000 3000000 3 1"),
    ("outbox", "outbox", "10000 1"),
    ("outbox", "ix_outbox_due", "10000 2"),
)


def create(connection: sa.Connection, revision: str) -> None:
    """In the transaction that is open. ``revision``: what Alembic is to take the store for."""
    for table in schema.metadata.tables.values():
        table.dialect_kwargs.update(table.info)
        for index in table.indexes:
            index.dialect_kwargs.update(index.info)
    schema.metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql("ANALYZE")  # makes the table of statistics
    connection.exec_driver_sql("DELETE FROM sqlite_stat1")
    connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", list(_STATISTICS))
    connection.exec_driver_sql("ANALYZE sqlite_schema")  # reads it
    connection.exec_driver_sql(
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (revision,))
