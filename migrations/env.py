"""What alembic runs: the steps, within the transaction of the connection it is given (storage/migration.py)."""

from alembic import context

from schemas.tables import STORE

context.configure(connection=context.config.attributes["connection"], target_metadata=STORE, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
