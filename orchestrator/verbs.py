"""What people can ask of an orchestrator: one set of verbs, whether it is embedded or behind a URL.

`Orchestrator` (in this process) and `client.Client` (over HTTP) both implement `Verbs`; the REST doors, the triggers
and `dagctl` know nothing else. The views here are the JSON shapes of the REST interface.

Times are microseconds since the Unix epoch. A *reference* is `id`, `id@1.2.0`, `id@^1` or `id@latest`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from dagengine.events.facts import ErrorInfo
from orchestrator.store.base import Status

if TYPE_CHECKING:  # not needed to speak the verbs, and slow to import
    from dagengine.spec.model import Document

__all__ = [
    "EngineView",
    "ExecutionPage",
    "ExecutionView",
    "FactView",
    "LogView",
    "Registration",
    "Verbs",
    "WorkflowView",
]


class WorkflowView(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a workflow. `versions` lists all versions of it, highest first."""

    id: str
    version: str
    digest: str
    name: str
    description: str
    labels: dict[str, str]
    registered_at: int
    versions: list[str]
    document: msgspec.Raw
    """The canonical document."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a registration. `created` is False when the same content was registered before."""

    id: str
    version: str
    digest: str
    created: bool


class ExecutionView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One execution. `outputs` is set when it succeeded, `error` when it failed."""

    id: str
    workflow: str
    version: str
    status: Status
    created_at: int
    trigger: str = "api"
    engine: str | None = None
    epoch: int = 0
    last_seq: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    inputs: dict[str, Any] | None = None
    """None where executions are listed."""
    outputs: dict[str, Any] | None = None
    """None where executions are listed, and unless it succeeded."""
    error: ErrorInfo | None = None
    waiting_on: str | None = None
    """Why it is not running: `no_engine`, `engines_full`, … (with `queued` only)."""


class ExecutionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Executions, newest first. `next` goes into the next request as `cursor`; None on the last page."""

    items: list[ExecutionView]
    next: str | None


class FactView(msgspec.Struct, frozen=True, kw_only=True):
    """One committed fact; `seq` is its position in its execution, counted from 1."""

    seq: int
    epoch: int
    fact: msgspec.Raw


class LogView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log stream; `line` is JSON of `dagengine.executors.base.LogLine`."""

    id: int
    line: msgspec.Raw


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """One engine as the orchestrator sees it. `state`: `connecting`, `ready`, `draining` or `unreachable`."""

    id: str
    address: str
    state: str
    capacity: int
    running: int
    version: str
    executors: list[str]
    labels: dict[str, str]
    workflows: list[str]
    """Versions (`id@version`) whose executions it runs now."""
    started: int
    """Executions it was given since the orchestrator started."""
    reason: str = ""
    """Why it is not ready."""


class Verbs(Protocol):
    """What people can ask of an orchestrator."""

    async def apply(
        self, document: Document | Mapping[str, Any] | str | bytes, *, expected: str | None = None
    ) -> Registration:
        """Register a workflow version from a document (parsed, plain values, or YAML/JSON text).

        Raises SpecError with every error of the document, or VersionConflict. With `expected` (`id` or `id@1.2.0`),
        RequestError when the document is another one.
        """

    async def workflows(self, *, labels: str = "") -> list[WorkflowView]:
        """The latest version of every workflow whose labels fit the selector (`team=data,tier!=gold,owner`)."""

    async def workflow(self, reference: str) -> WorkflowView:
        """The version that a reference names. NotFound when there is none, RequestError when it cannot be read."""

    async def delete_workflow(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        """Remove one version, or the whole workflow; how many versions went. NotFound, InUse."""

    async def start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        trigger: str = "api",
    ) -> ExecutionView:
        """Start an execution; returns once it is recorded. NotFound, InputError, Overloaded."""

    async def wait(self, execution: str, *, timeout: float | None = None) -> ExecutionView:
        """The execution once it has ended, or as it is after `timeout` seconds."""

    async def execution(self, execution: str) -> ExecutionView:
        """One execution. NotFound."""

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ExecutionPage:
        """Executions, newest first."""

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[FactView]:
        """Committed facts after position `after`: at most `limit` or 4 MiB of them, but at least one. NotFound.

        Only an empty page tells that there are no more.
        """

    def events(self, execution: str, *, after: int = 0) -> AsyncIterator[FactView]:
        """Facts as they are committed, from `after` on, until the execution has ended. NotFound."""

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[LogView]:
        """Log lines with ids after `after`, in pages like those of `facts`. NotFound."""

    async def cancel(self, execution: str, *, reason: str = "", author: str = "") -> ExecutionView:
        """Ask an execution to stop; returns once the request is durable. NotFound, Conflict when it has ended."""

    async def engines(self) -> list[EngineView]:
        """The engines known now."""
