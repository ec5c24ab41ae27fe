"""What the API server says when it refuses: `Status` bodies, word for word as the real one has them.

Everything in the double that refuses a request raises a `Refusal`; `kubernetes_http` turns it into an answer, and the
direct calls of `KubernetesAPI` let it through to the test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes_kinds import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that is wrong with an object, and where: `reason` is a `FieldValueRequired` or its like."""

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class Refusal(Exception):  # noqa: N818 - what the server does, not what went wrong
    """The server answers with `code` and a Status body."""

    def __init__(self, code: int, reason: str, message: str, *, retry_after: int | None = None, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.details = details | ({} if retry_after is None else {"retryAfterSeconds": retry_after})
        self.continue_token = ""

    @property
    def body(self) -> dict[str, Any]:
        """The Status object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": str(self),
            **({"reason": self.reason} if self.reason else {}),
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


def _of(kind: Kind, name: str) -> dict[str, str]:
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}


def not_found(kind: Kind, name: str) -> Refusal:
    return Refusal(404, "NotFound", f'{kind.resource} "{name}" not found', **_of(kind, name))


def already_exists(kind: Kind, name: str) -> Refusal:
    return Refusal(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', **_of(kind, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(kind: Kind, name: str, why: str = MODIFIED) -> Refusal:
    text = f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}'
    return Refusal(409, "Conflict", text, **_of(kind, name))


def invalid(kind: Kind, name: str, causes: Iterable[Cause]) -> Refusal:
    """422: `causes` are all that is wrong with the object."""
    found = list(causes)
    words = [str(cause) for cause in found]
    text = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    group = f".{kind.group}" if kind.group else ""
    return Refusal(
        422,
        "Invalid",
        f'{kind.kind}{group} "{name}" is invalid: {text}',
        **_of(kind, name) | {"kind": kind.kind},
        causes=[{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in found],
    )


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, why: str) -> Refusal:
    named = f' "{name}"' if name else ""
    return Refusal(403, "Forbidden", f"{kind.resource}{named} is forbidden: {why}", **_of(kind, name))


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def expired(since: int, oldest: int) -> Refusal:
    return Refusal(410, "Expired", f"too old resource version: {since} ({oldest})")


def too_large(since: int, present: int) -> Refusal:
    """A version that the server has not come to yet."""
    return Refusal(
        504,
        "Timeout",
        f"Too large resource version: {since}, current: {present}",
        retry_after=1,
        causes=[{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
    )


def not_served() -> Refusal:
    """The path names no resource. The real server says so in plain text, as `kubernetes_http` does."""
    return Refusal(404, "", "404 page not found")
