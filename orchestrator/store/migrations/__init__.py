"""Alembic revisions of the store's schema, shipped with the package and run by `orchestrator.store.migration`."""
