"""Run the migrations on the connection that mstore hands in, inside its transaction."""

from alembic import context

from mstore.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
