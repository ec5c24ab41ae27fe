"""Every error the orchestrator raises on purpose, under one root.

::

    OrchestratorError
    ├── NotFound               no such workflow, version, execution or engine
    ├── Conflict               the request contradicts what is stored
    │   ├── VersionConflict    the version exists with another content
    │   ├── InUse              the workflow still has running executions
    │   └── AtLimit            as many executions as the workflow allows are under way, and it skips others
    ├── Unavailable            nobody can do it now; trying again later may work
    │   └── Overloaded         the admission queue is full
    ├── StoreError             the store refused, or cannot be read or written
    │   ├── Fenced             another replica has taken over what this one owned
    │   └── ValuesMissing      facts cite large values that are not kept any more
    ├── TransportError         an engine or orchestrator cannot be reached, or broke the protocol
    ├── ClusterError           the Kubernetes API did not do what was asked
    │   ├── ClusterUnavailable   it cannot be reached, is overloaded, or takes too long
    │   ├── ClusterRefused       it does not let us: credentials or RBAC
    │   ├── ClusterNotFound      there is no such object, or no such kind of objects
    │   ├── ClusterConflict      the object is there already, or was changed meanwhile
    │   ├── ClusterExpired       it does not know that far back any more: list again
    │   └── ClusterInvalid       the object or the request is wrong
    ├── Unauthorized           the token is missing or wrong
    ├── Forbidden              whoever asks may not do that
    └── RequestError           the request itself is wrong (unknown field, bad value, too large)

The doors map them: NotFound 404, Conflict 409, Unavailable 503, Overloaded 429, Unauthorized 401, Forbidden 403,
RequestError 400 (413 when too large), StoreError 503 but for ValuesMissing, the rest 500. Errors of `dagengine`
(`SpecError`, `InputError`) pass through unchanged.
"""

from __future__ import annotations

__all__ = [
    "AtLimit",
    "ClusterConflict",
    "ClusterError",
    "ClusterExpired",
    "ClusterInvalid",
    "ClusterNotFound",
    "ClusterRefused",
    "ClusterUnavailable",
    "Conflict",
    "Fenced",
    "Forbidden",
    "InUse",
    "NotFound",
    "OrchestratorError",
    "Overloaded",
    "RequestError",
    "StoreError",
    "TransportError",
    "Unauthorized",
    "Unavailable",
    "ValuesMissing",
    "VersionConflict",
]


class OrchestratorError(Exception):
    """Root of everything `orchestrator` raises on purpose."""


class NotFound(OrchestratorError):  # noqa: N818 - a condition, named as HTTP names it
    """No such workflow, version, execution or engine."""


class Conflict(OrchestratorError):  # noqa: N818 - a condition, named as HTTP names it
    """The request contradicts what is stored."""


class VersionConflict(Conflict):
    """The version is registered already, with another content. Versions are immutable: raise the version."""


class InUse(Conflict):
    """The workflow or version still has executions that have not ended."""


class AtLimit(Conflict):
    """As many executions as the workflow's concurrency allows are under way, and it says to skip those on top."""


class Unavailable(OrchestratorError):  # noqa: N818 - a condition, named as HTTP names it
    """Nobody can do it now; trying again later may work."""


class Overloaded(Unavailable):
    """The admission queue is full. `retry_after` is a suggestion in seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreError(OrchestratorError):
    """The store refused, or cannot be read or written."""


class Fenced(StoreError):  # noqa: N818 - a condition, named as what it is about
    """Another replica has ended the lease of this one: it owns nothing any more, and must join again."""


class ValuesMissing(StoreError):  # noqa: N818 - a condition, named as what it is about
    """Facts cite large values that are not kept any more: trying again is no use."""


class TransportError(OrchestratorError):
    """A peer cannot be reached, or broke the protocol."""


class ClusterError(OrchestratorError):
    """The Kubernetes API did not do what was asked. `status` is its HTTP status, 0 when it did not answer."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ClusterUnavailable(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """The Kubernetes API cannot be reached, is overloaded, or takes too long: trying again later may work.

    `retry_after` is what it suggests, in seconds; None when it does not.
    """

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class ClusterRefused(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """The Kubernetes API does not know us, or does not let us do that."""


class ClusterNotFound(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """There is no such object, or the API server does not know its kind (a CRD is not installed)."""


class ClusterConflict(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """The object is there already, or is not the version that was to be changed."""


class ClusterExpired(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """The API server does not know that resource version any more: list again."""


class ClusterInvalid(ClusterError):  # noqa: N818 - a condition, named as HTTP names it
    """The object, or the request, is wrong: trying again is no use."""


class Unauthorized(OrchestratorError):  # noqa: N818 - a condition, named as HTTP names it
    """The token is missing or wrong."""


class Forbidden(OrchestratorError):  # noqa: N818 - a condition, named as HTTP names it
    """Whoever asks may not do that."""


class RequestError(OrchestratorError):
    """The request itself is wrong. `too_large` tells a body over the limit from other faults."""

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large
