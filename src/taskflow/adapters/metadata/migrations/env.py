"""Alembic's entry point: runs the revisions on the connection that `migrate` hands over."""

from alembic import context

given = context.config.attributes
context.configure(
    connection=given["connection"],
    version_table=given["version_table"],
    transactional_ddl=False,  # one transaction around all of it, `migrate`'s
)
context.run_migrations()
