"""What people can ask of an orchestrator: one set of verbs, whether it is embedded or behind a URL.

`Orchestrator` (in this process) and `client.Client` (over HTTP) both implement `Verbs`; the REST doors, the triggers
and `dagctl` know nothing else. The views here are the JSON shapes of the REST interface.

Times are microseconds since the Unix epoch. A *reference* is `id`, `id@1.2.0`, `id@^1` or `id@latest`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from dagengine.events.facts import ErrorInfo
from orchestrator.reports import JournalHeader, PurgeReport
from orchestrator.store.base import Status

if TYPE_CHECKING:  # not needed to speak the verbs, and slow to import
    from dagengine.machine.operations import Operation
    from dagengine.spec.model import Document

__all__ = [
    "AttemptView",
    "EngineView",
    "ExecutionPage",
    "ExecutionView",
    "Explanation",
    "FactView",
    "JournalHeader",
    "LogView",
    "NodeReason",
    "NodeView",
    "PoolView",
    "PurgeReport",
    "Receipt",
    "Registration",
    "ReplicaView",
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
    """One execution. `outputs` is set when it succeeded, `error` when it failed, `reason` when it was cancelled."""

    id: str
    workflow: str
    version: str
    status: Status
    created_at: int
    trigger: str = "api"
    priority: int = 0
    concurrency_key: str | None = None
    """What it counts under for its workflow's `concurrency`."""
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
    reason: str = ""
    """Why it was cancelled, in the words of whoever did that."""
    waiting_on: str | None = None
    """Why no engine runs it: `no_engine`, `engines_full`, `engine_away:ID`, …"""


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


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an operation: it is durable. A fact that cites `command` tells later what became of it."""

    execution: str
    command: str
    kind: str
    """`cancel`, `pause`, `resume`, `retry`, `skip`, `signal`, `decide` or `edit`."""
    after: int
    """Position of the last committed fact of the execution before it: that which cites `command` comes later."""


class NodeReason(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a node, or an item of it (`index`, counted from 0), is not running (`dagengine.machine.why.Why`).

    `code` is for programs, `words` for people; the other members are there where the reason has them.
    """

    node: str
    phase: str
    code: str
    words: str
    index: int | None = None
    waiting_on: tuple[str, ...] = ()
    """Nodes that have to end before, the first few of them."""
    until: int | None = None
    """When it goes on by itself, or gives up waiting."""
    since: int | None = None
    name: str = ""
    """The signal that it waits for."""
    pool: str = ""
    rate: str = ""
    reason: str = ""
    author: str = ""
    attempt: int = 0
    error: ErrorInfo | None = None
    items: dict[str, int] | None = None
    """Of a node with `foreach`: how many of its items are in which phase."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an execution, and each of its nodes, is not running, from what is committed."""

    execution: str
    status: Status
    waiting_on: str | None = None
    """Why no engine has it, as in `ExecutionView` (with `queued` only)."""
    words: str = ""
    """The same for people."""
    nodes: list[NodeReason]


class AttemptView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try at a node, or at an item of it.

    `outcome` is `running`, `waiting`, `success`, `fail`, `error`, `cancelled`, `overridden` (somebody decided what
    becomes of the node meanwhile) or `unknown` (the execution was given up). Attempt 0 failed before it began.
    """

    node: str
    index: int | None = None
    attempt: int
    outcome: str
    queued_at: int | None = None
    """Since when it had waited for room in a pool, or for its turn."""
    started_at: int | None = None
    finished_at: int | None = None
    elapsed: int = 0
    """Time that it took, as its engine measured it, in microseconds."""
    args: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON of its inputs: the evaluated templates of its executor, where that has any."""
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """JSON."""
    error: ErrorInfo | None = None
    retry_at: int | None = None
    """When the attempt after it was to begin."""
    cached_from: str = ""
    """The execution that had found the result: then nothing was run."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a node is, from what is committed. Items are counted of a node with `foreach` once it has any."""

    id: str
    state: str
    """`pending`, `queued`, `running`, `waiting`, `retrying`, `succeeded`, `failed`, `skipped` or `cancelled`."""
    attempt: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    items: int | None = None
    items_succeeded: int = 0
    items_failed: int = 0
    paused: bool = False
    note: str = ""


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """One engine as the orchestrator sees it: `connecting`, `ready`, `draining`, `unhealthy` or `unreachable`."""

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
    reserved_for: str = ""
    """The execution that has it for itself, or that it is to become free for; empty: none."""
    reason: str = ""
    """Why it is not ready."""


class PoolView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pool as it stands: room that it has, room that is taken, and how many attempts wait for some.

    `scope` is `system` (one pool for all engines) or `engine` (one of `engine`, for itself).
    """

    name: str
    scope: Literal["system", "engine"]
    engine: str | None = None
    size: int
    used: int | None
    """None where another replica counts it, as for `waiting`: `reason` says so."""
    waiting: int | None
    rate: str | None = None
    """How often attempts may begin in it, such as `10/s`; None: as often as there is room."""
    reason: str = ""
    """Why nothing is granted in it now."""


class ReplicaView(msgspec.Struct, frozen=True, kw_only=True):
    """One orchestrator among those that share a store. Times are on the store's clock.

    `leads` says whether it is the one that does what only one may: cron triggers, pools, concurrency keys, purges.
    """

    name: str
    leads: bool
    joined_at: int
    until: int
    """When others may take over what it owns, unless it has been heard of again by then."""


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
        priority: int | None = None,
    ) -> ExecutionView:
        """Start an execution; returns once it is recorded. Without a `priority` it has that of its workflow.

        NotFound, InputError, Overloaded, AtLimit when its workflow skips what comes while as many as it allows are
        under way, RequestError when the priority is none.
        """

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

    async def journal(self, execution: str) -> JournalHeader:
        """An execution with its document, without its facts: the first line of an exported journal. NotFound."""

    def events(self, execution: str, *, after: int = 0) -> AsyncIterator[FactView]:
        """Facts as they are committed, from `after` on, until the execution has ended. NotFound."""

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[LogView]:
        """Log lines with ids after `after`, in pages like those of `facts`. NotFound."""

    async def operate(self, execution: str, operation: Operation, /) -> Receipt:
        """Ask something of an execution; returns once that is durable.

        NotFound when there is no such execution or node, Conflict when the execution has ended (unless parts of it are
        to run again), Forbidden when the author may not do that, InputError when values do not fit their schemas,
        RequestError when the workflow has nothing that it could be meant for. `orchestrator.operating.Operating` has a
        method for each operation.
        """

    async def why(self, execution: str, node: str | None = None) -> Explanation:
        """Why an execution, and its nodes (or one), is not running. NotFound."""

    async def nodes(self, execution: str) -> list[NodeView]:
        """How far each node is, in the order of the document. NotFound."""

    async def attempts(
        self, execution: str, node: str, *, index: int | None = None, after: int = 0, limit: int = 1_000
    ) -> list[AttemptView]:
        """Every try at a node (at one item of it), in the order of their beginnings, but for the first `after`.

        In pages like those of `facts`. NotFound.
        """

    async def engines(self) -> list[EngineView]:
        """The engines known now."""

    async def pools(self) -> list[PoolView]:
        """The pools over the whole system, and those of the engines that are connected."""

    async def replicas(self) -> list[ReplicaView]:
        """The orchestrators that share one store, in the order in which they joined it."""

    async def purge(
        self,
        *,
        workflow: str | None = None,
        older_than: float | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
        within: float | None = None,
    ) -> PurgeReport:
        """Delete executions (of one workflow) that have ended, with all that belongs to them; what went.

        Those that ended longer ago than `older_than` (seconds, or `30d`), and of each workflow those beyond the newest
        `keep`; with neither, what the retention of each workflow says. With `dry_run` nothing goes, and the answer
        tells what would. With `within`, it ends after about so many seconds, and `more` of the answer tells whether
        anything is left. NotFound when there is no such workflow, RequestError.
        """
