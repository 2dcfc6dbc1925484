"""What Alembic runs for a migration: on the connection that it is given, all in one transaction."""

from alembic import context

from edgeconv.history.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
