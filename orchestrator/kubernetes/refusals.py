"""What the Kubernetes API says when it does not do what was asked, as errors of ours. Used by `client`."""

from __future__ import annotations

import dataclasses
import email.utils
import time
from typing import Any, Final, Literal

from orchestrator.errors import (
    ClusterConflict,
    ClusterError,
    ClusterExpired,
    ClusterInvalid,
    ClusterNotFound,
    ClusterRefused,
    ClusterUnavailable,
)
from orchestrator.kubernetes.base import SECRETS, Object, Resource

__all__ = ["Call", "Verb", "error"]

Verb = Literal["get", "list", "watch", "create", "update", "patch", "delete"]
"""As roles name them."""

_METHODS: Final[dict[Verb, str]] = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}

_LONGEST_WORDS: Final = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the API. As text, it is the beginning of an error's message."""

    verb: Verb
    resource: Resource
    namespace: str
    name: str = ""
    subresource: str = ""

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return _METHODS[self.verb]

    @property
    def path(self) -> str:
        """The path of the URL."""
        return self.resource.path(self.namespace, self.name, self.subresource)

    @property
    def kind(self) -> str:
        """As roles name it: `pods`, `deployments/scale`."""
        return "/".join(part for part in (self.resource.plural, self.subresource) if part)

    def __str__(self) -> str:
        name = f" '{self.name}'" if self.name else ""
        return f"cannot {self.verb} {self.kind}{name} in namespace '{self.namespace}'"


def error(what: Call, code: int, status: Object, retry_after: str | None) -> ClusterError:
    """The error for an answer with that HTTP status; `status` is its body."""
    words = _words(what, code, status)
    match code:
        case 401:
            return ClusterRefused(
                f"{what}: the API does not accept our credentials: check the service account, or the user of the "
                "kubeconfig",
                status=code,
            )
        case 403:
            return ClusterRefused(
                f"{what}: give our role the verb '{what.verb}' on resource '{what.kind}' of API group "
                f"'{what.resource.group}' there ({words})",
                status=code,
            )
        case 404:
            return ClusterNotFound(f"{what}: {words}", status=code)
        case 409:
            return ClusterConflict(f"{what}: {words}", status=code)
        case 410:
            return ClusterExpired(f"{what}: {words}", status=code)
        case _ if code in (408, 429) or code >= 500:
            after = _seconds(retry_after, status)
            return ClusterUnavailable(f"{what}: {words}", status=code, retry_after=after)
        case _:
            return ClusterInvalid(f"{what}: {words}", status=code)


def _words(what: Call, code: int, status: Object) -> str:
    reason = str(status.get("reason") or f"HTTP status {code}")
    message = str(status.get("message") or "")[:_LONGEST_WORDS]
    if what.resource == SECRETS:  # a message may quote the value that is wrong
        message = ""
    return f"{reason}: {message}" if message else reason


def _seconds(header: str | None, status: Object) -> float | None:
    """What `Retry-After` says, or else the body."""
    details: Any = status.get("details")
    told = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    value: Any = header if header is not None else told
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except (TypeError, ValueError):
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(str(value)).timestamp() - time.time())
    except ValueError:
        return None
