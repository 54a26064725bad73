"""The store's schema, step by step (alembic)."""

HEAD = "0001"
"""The newest step: what `storage.database.migrate` brings a store to."""
