"""The port to the Kubernetes API: objects of one namespace, read, watched and changed.

Objects are plain JSON values, as the API has them: what this project reads of them is little, and it keeps what it does
not know. Used by discovery, leader election, the controllers of workflow objects, and scaling; `client` is the adapter.

Every method raises `orchestrator.errors.ClusterError`: `ClusterUnavailable` when the API cannot be reached, is
overloaded or takes too long (trying again later may work), `ClusterRefused` when it does not let us (401, 403),
`ClusterNotFound` (404), `ClusterConflict` (409: it is there already, or was changed meanwhile), `ClusterExpired` (410:
list again), `ClusterInvalid` (400, 422: the object or the request is wrong).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

__all__ = [
    "DEPLOYMENTS",
    "ENDPOINT_SLICES",
    "EXECUTIONS",
    "LEASES",
    "PODS",
    "SECRETS",
    "STATEFUL_SETS",
    "WORKFLOWS",
    "Cluster",
    "Event",
    "Object",
    "Page",
    "Patch",
    "Resource",
]

Object = dict[str, Any]
"""An object of the API, as JSON."""

Patch = Literal["merge", "apply"]
"""`merge` is a JSON merge patch (RFC 7386), `apply` server-side apply under this project's field manager."""


class Resource(msgspec.Struct, frozen=True):
    """A kind of objects. `group` is empty for the core API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As objects have it: `v1`, `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Where the API has the objects of a namespace, one of them, or a subresource of it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = (root, "namespaces", namespace, self.plural, name, subresource)
        return "/".join(part for part in parts if part)


PODS: Final = Resource("", "v1", "pods", "Pod")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
STATEFUL_SETS: Final = Resource("apps", "v1", "statefulsets", "StatefulSet")
WORKFLOWS: Final = Resource("workflows.dagengine.dev", "v1", "workflows", "Workflow")
EXECUTIONS: Final = Resource("workflows.dagengine.dev", "v1", "executions", "Execution")


class Page(msgspec.Struct, frozen=True):
    """All objects that a list asked for, and the resource version from which to watch on."""

    items: list[Object]
    resource_version: str


class Event(msgspec.Struct, frozen=True):
    """One event of a watch. A bookmark's object has a resource version and nothing else."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class Cluster(Protocol):
    """One namespace of a cluster."""

    @property
    def namespace(self) -> str:
        """The namespace that all methods are about."""

    async def get(self, resource: Resource, name: str, *, subresource: str = "") -> Object:
        """One object."""

    async def list(self, resource: Resource, *, labels: str = "") -> Page:
        """All objects that a label selector selects, however many requests that takes."""

    def watch(
        self, resource: Resource, *, since: str, labels: str = "", seconds: float = 300.0
    ) -> AsyncGenerator[Event, None]:
        """Changes after resource version `since`, bookmarks among them. Ends after about so many seconds.

        Raises ClusterExpired when the API does not know that far back any more, ClusterUnavailable when the stream
        breaks off. Close it (`aclose`) to end it sooner.
        """

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Create an object: what the API made of it. ClusterConflict when the name is taken."""

    async def replace(self, resource: Resource, name: str, body: Mapping[str, Any], *, subresource: str = "") -> Object:
        """Replace an object. ClusterConflict when `body` has a resource version and that is not the present one."""

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        *,
        kind: Patch = "merge",
        subresource: str = "",
    ) -> Object:
        """Change some of an object. With a `metadata.resourceVersion` in `body`, only that version of it."""

    async def delete(self, resource: Resource, name: str, *, uid: str = "") -> None:
        """Ask for an object to be deleted; with `uid`, only that very one (ClusterConflict when it is another)."""

    async def close(self) -> None:
        """End every request. Idempotent."""
