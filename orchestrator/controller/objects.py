"""The objects of one kind as the controllers see them: as the API told last, or as they were written since.

What is written here is heard of from the API a moment later. Until then a look at the object must see what was written,
or it would write it again. Every write is for the version that was looked at: when somebody else was faster, the API
refuses it (ClusterConflict), and the object is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dagengine.clock import Clock
from orchestrator.controller import conditions
from orchestrator.errors import ClusterError
from orchestrator.kubernetes.base import Cluster, Object, Resource

__all__ = ["Objects"]

_BETWEEN: Final = 1.0
"""Seconds between two statuses of one object, at least."""


class Objects:
    """The objects of a kind."""

    def __init__(
        self, cluster: Cluster, resource: Resource, level: Callable[[], Mapping[str, Object]], clock: Clock
    ) -> None:
        """`level` gives what a reflector keeps of them."""
        self._cluster = cluster
        self._resource = resource
        self._level = level
        self._clock = clock
        self._written: dict[str, tuple[str, Object]] = {}
        """What the API made of a write, and the version that it was about."""
        self._told_at: dict[str, int] = {}
        """When a status was written last."""

    @property
    def names(self) -> list[str]:
        """All of them."""
        return list(self._level())

    def get(self, name: str) -> Object | None:
        """The object; None when there is none (any more)."""
        body = self._level().get(name)
        if body is None:
            self._written.pop(name, None)
            self._told_at.pop(name, None)
            return None
        about, written = self._written.get(name, ("", body))
        if about == _version(body):
            return written
        self._written.pop(name, None)
        return body

    async def finalize(
        self, body: Object, finalizer: str, *, wanted: bool, notes: Mapping[str, str] | None = None
    ) -> Object:
        """The object with a finalizer, or without it; and with `notes` among its annotations."""
        metadata, change = body["metadata"], dict[str, Any]()
        present = list(metadata.get("finalizers") or ())
        if (finalizer in present) != wanted:
            kept = [*present, finalizer] if wanted else [each for each in present if each != finalizer]
            change["finalizers"] = kept
        known = metadata.get("annotations") or {}
        if missing := {name: value for name, value in (notes or {}).items() if known.get(name) != value}:
            change["annotations"] = missing
        return await self._patch(body, {"metadata": change}) if change else body

    async def tell(self, body: Object, status: Mapping[str, Any], *, at_once: bool = False) -> float | None:
        """Write a status where it is another: None when it is there, else in how many seconds it may be.

        `at_once`: however short the last one was ago.
        """
        name = str(body["metadata"]["name"])
        patch = conditions.difference(body.get("status"), status)
        if not patch:
            return None
        left = _BETWEEN - (self._clock.now() - self._told_at.get(name, 0)) / 1e6
        if left > 0 and not at_once:
            return left
        await self._patch(body, {"status": patch}, "status")
        self._told_at[name] = self._clock.now()
        return None

    async def delete(self, body: Object) -> None:
        """Ask for this very object to be deleted."""
        await self._cluster.delete(self._resource, body["metadata"]["name"], uid=body["metadata"]["uid"])

    async def _patch(self, body: Object, patch: dict[str, Any], subresource: str = "") -> Object:
        name = str(body["metadata"]["name"])
        about = {"metadata": {**patch.get("metadata", {}), "resourceVersion": body["metadata"]["resourceVersion"]}}
        level = self._level().get(name)
        try:
            written = await self._cluster.patch(self._resource, name, {**patch, **about}, subresource=subresource)
        except ClusterError:
            self._written.pop(name, None)
            raise
        if level is not None:
            self._written[name] = (_version(level), written)
        return written


def _version(body: Object) -> str:
    return str(body["metadata"]["resourceVersion"])
