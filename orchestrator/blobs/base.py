"""The blob port: large values by digest. Facts cite them (`references`), so they are put first and never change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

__all__ = ["Blobs"]


class Blobs(Protocol):
    """Where large values are kept."""

    async def put(self, values: Mapping[str, bytes]) -> None:
        """Keep values by digest; durable when it returns. What is there already stays. Raises StoreError."""

    async def get(self, digests: Collection[str]) -> dict[str, bytes]:
        """The values with some digests; unknown ones are left out. Raises StoreError."""
