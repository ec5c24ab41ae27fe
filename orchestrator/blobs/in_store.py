"""Large values in the store's own database: nothing more to set up, and there for every replica."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.store.base import Store

__all__ = ["InStore"]


class InStore:
    """A `Blobs` over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, values: Mapping[str, bytes]) -> None:
        """Keep values by digest. Raises StoreError, Fenced."""
        await self._store.put_blobs(values)

    async def get(self, digests: Collection[str]) -> dict[str, bytes]:
        """The values with some digests. Raises StoreError."""
        return await self._store.blobs(digests)
