"""The store's schema, step by step (alembic)."""

HEAD = "0002"
"""The newest step: what `storage.database.migrate` brings a store to."""
