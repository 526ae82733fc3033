"""Runs the migrations on the connection that `store/migrate.py` hands over, in its transaction."""

from alembic import context

from orchestrator.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
