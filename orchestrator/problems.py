"""Errors as JSON, and back: RFC 9457 problem details, one kind for each error of the tree.

The REST interface turns exceptions into `ProblemDetails`, the client turns those back into the same exceptions; the
one table of kinds below serves both, so that `except NotFound` means the same embedded and over HTTP.

`type` is `urn:dagengine:problem:<kind>` and never changes its meaning; `detail` is for people and may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from dagengine import errors as engine_errors
from orchestrator import errors

__all__ = [
    "KINDS",
    "Kind",
    "MEDIA_TYPE",
    "Misdirected",
    "PREFIX",
    "ProblemDetails",
    "ProblemItem",
    "describe",
    "incident",
    "outage",
    "problem",
    "restore",
]

PREFIX: Final = "urn:dagengine:problem:"
MEDIA_TYPE: Final = "application/problem+json"


class Misdirected(errors.RequestError):
    """A request refused for what HTTP says about it (host, origin, method, media type), not for its content.

    `kind` names the problem in `KINDS`; `headers` go out with the answer.
    """

    def __init__(self, message: str, *, kind: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.headers = headers or {}


class ProblemItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a document or with inputs. `line` and `column` are 0 where there are none."""

    path: str = ""
    line: int = 0
    column: int = 0
    message: str


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused (RFC 9457). `errors` names the problems of a document or of inputs."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    """Path of the request."""
    errors: list[ProblemItem] = []
    omitted: int = 0
    """Number of problems beyond those that `errors` names."""
    retry_after: float | None = None
    """Seconds after which trying again may work."""
    incident: str | None = None
    """Names the entry in the orchestrator's log that tells what happened."""
    execution: str | None = None
    """Path of the execution that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a `type` stands for: its HTTP status, its title, and the exception on both sides, where there is one."""

    status: int
    title: str
    error: type[Exception] | None = None


KINDS: Final[dict[str, Kind]] = {
    "invalid-document": Kind(status=422, title="The workflow document is wrong", error=engine_errors.SpecError),
    "invalid-inputs": Kind(status=422, title="The inputs do not fit the workflow", error=engine_errors.InputError),
    "execution-failed": Kind(status=422, title="The execution did not succeed"),
    "version-conflict": Kind(status=409, title="The version exists with another content", error=errors.VersionConflict),
    "in-use": Kind(status=409, title="Executions are still running", error=errors.InUse),
    "at-limit": Kind(status=409, title="As many executions as allowed are under way", error=errors.AtLimit),
    "conflict": Kind(status=409, title="The request contradicts what is stored", error=errors.Conflict),
    "overloaded": Kind(status=429, title="The admission queue is full", error=errors.Overloaded),
    "unavailable": Kind(status=503, title="Not available now", error=errors.Unavailable),
    "not-found": Kind(status=404, title="Not found", error=errors.NotFound),
    "unauthorized": Kind(status=401, title="The token is missing or wrong", error=errors.Unauthorized),
    "forbidden": Kind(status=403, title="Not allowed", error=errors.Forbidden),
    "body-too-large": Kind(status=413, title="The request body is too large"),
    "foreign-origin": Kind(status=403, title="Requests from pages of other origins are refused"),
    "unknown-host": Kind(status=421, title="The host name is not one of this server's"),
    "method-not-allowed": Kind(status=405, title="The method is not offered here"),
    "unsupported-media-type": Kind(status=415, title="The media type is not understood here"),
    "bad-request": Kind(status=400, title="The request is wrong", error=errors.RequestError),
    "internal": Kind(status=500, title="The orchestrator made a mistake", error=errors.OrchestratorError),
}
"""Every kind of problem; of several that fit an exception, the first counts."""

_SPECIFIC: Final = tuple((kind.error, name) for name, kind in KINDS.items() if kind.error and name != "internal")


_RETRY_AFTER: Final = 1.0
"""Seconds after which trying again may work, where nobody knows better."""


def _kind(exc: Exception) -> str | None:
    if isinstance(exc, Misdirected):
        return exc.kind
    if isinstance(exc, errors.RequestError) and exc.too_large:
        return "body-too-large"
    return next((name for error, name in _SPECIFIC if isinstance(exc, error)), None)


def problem(kind: str, detail: str, *, instance: str = "", execution: str | None = None) -> ProblemDetails:
    """Problem details of a kind in `KINDS`."""
    entry = KINDS[kind]
    return ProblemDetails(
        type=PREFIX + kind,
        title=entry.title,
        status=entry.status,
        detail=detail,
        instance=instance,
        execution=execution,
    )


def describe(exc: Exception, *, instance: str = "") -> ProblemDetails | None:
    """`exc` for whoever made the request; None when it is our fault and its message is not for them."""
    kind = _kind(exc)
    if kind is None:
        return None
    details = problem(kind, str(exc), instance=instance)
    if isinstance(exc, engine_errors.SpecError | engine_errors.InputError):
        items = [
            ProblemItem(path=item.path, line=item.line, column=item.column, message=item.message)
            for item in exc.problems
        ]
        return msgspec.structs.replace(details, detail=exc.summary, errors=items, omitted=exc.omitted)
    if isinstance(exc, errors.Overloaded):
        return msgspec.structs.replace(details, retry_after=exc.retry_after)
    if isinstance(exc, errors.Unavailable):
        return msgspec.structs.replace(details, retry_after=_RETRY_AFTER)
    return details


def incident(number: str, *, instance: str) -> ProblemDetails:
    """An error that is our fault: nothing of it but the number under which it was logged."""
    detail = f"something went wrong inside the orchestrator; its log tells what, under incident {number}"
    return msgspec.structs.replace(problem("internal", detail, instance=instance), incident=number)


def outage(number: str, *, instance: str) -> ProblemDetails:
    """The store cannot be used now: nothing of why but the number under which it was logged."""
    detail = f"the store cannot be used now; try again later (the log tells why, under incident {number})"
    details = problem("unavailable", detail, instance=instance)
    return msgspec.structs.replace(details, incident=number, retry_after=_RETRY_AFTER)


def restore(details: ProblemDetails) -> Exception:
    """The exception that `describe` was given, as far as the details tell."""
    name = details.type.removeprefix(PREFIX)
    if name in ("invalid-document", "invalid-inputs"):
        found = [
            engine_errors.Problem(path=item.path, line=item.line, column=item.column, message=item.message)
            for item in details.errors
        ]
        wrong = engine_errors.SpecError if name == "invalid-document" else engine_errors.InputError
        return wrong(details.detail, found, omitted=details.omitted)
    if name == "overloaded":
        return errors.Overloaded(details.detail, retry_after=details.retry_after or 1.0)
    if name == "body-too-large":
        return errors.RequestError(details.detail, too_large=True)
    kind = KINDS.get(name)
    if kind is not None and kind.error is not None:
        return kind.error(details.detail)
    if details.status >= 500:
        return errors.OrchestratorError(details.detail)
    return errors.RequestError(details.detail)
