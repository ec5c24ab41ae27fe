"""The store port: what the orchestrator remembers, and the promises it keeps about it.

Every method is one transaction: when it returns, what it wrote is durable; when it raises, nothing was written.
Concurrent writes may share a transaction (group commit), but one refusal never aborts another's write. The only
exception that leaves a store is `StoreError` (and `VersionConflict`, `InUse` where a method names them). A caller that
is cancelled while it waits does not know whether it has written: ask again.

Times are microseconds since the Unix epoch. Values (`inputs`, `outputs`, documents, facts) are JSON bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol

import msgspec

__all__ = [
    "Appended",
    "Batch",
    "ExecutionRecord",
    "InboxItem",
    "LogRecord",
    "NewExecution",
    "PAGE_BYTES",
    "Status",
    "Store",
    "StoredFact",
    "TERMINAL",
    "Terminal",
    "Version",
    "VersionRecord",
]

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
"""`queued` until the first fact is committed, then `running`, then one of the others.

That is for good, unless somebody has parts of it run again: then it is `queued` once more, until a fact says so.
"""

PAGE_BYTES: Final = 4 << 20
"""Bytes of payloads in a page of facts or log lines, unless its first is larger by itself."""

TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})


class _Spec(msgspec.Struct):
    triggers: msgspec.Raw = msgspec.Raw(b"{}")


class _Document(msgspec.Struct):
    spec: _Spec = msgspec.field(default_factory=_Spec)


_document: Final = msgspec.json.Decoder(_Document)


class VersionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version of a workflow. `document` is canonical JSON; `labels` are those of its metadata."""

    workflow: str
    version: str
    digest: str
    document: bytes
    labels: dict[str, str]
    name: str
    description: str
    registered_at: int

    @property
    def triggers(self) -> bytes:
        """`spec.triggers` of the document, JSON; the rest of it is not read for that."""
        return bytes(_document.decode(self.document).spec.triggers)


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version without its document, which may be large, but with the triggers that it declares (JSON)."""

    workflow: str
    version: str
    digest: str
    triggers: bytes
    labels: dict[str, str]
    name: str
    description: str
    registered_at: int

    @classmethod
    def of(cls, record: VersionRecord) -> Version:
        """What is kept of a record where its document is not."""
        return cls(
            workflow=record.workflow,
            version=record.version,
            digest=record.digest,
            triggers=record.triggers,
            labels=record.labels,
            name=record.name,
            description=record.description,
            registered_at=record.registered_at,
        )


class NewExecution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution to be recorded as `queued`.

    `idempotency_key` is unique per workflow: a second execution with the same key is not made. `trigger` says what
    started it (`api`, `http`, `cron`, …), `occurrence` which occurrence of the trigger (unique over the store).
    `concurrency_key` is what the key of its workflow's `concurrency` came to for it; None where there is none.
    `digest` is that of a version that is or was registered. `seed` has 64 bits, without sign.
    """

    id: str
    workflow: str
    version: str
    digest: str
    inputs: bytes
    created_at: int
    seed: int
    idempotency_key: str | None = None
    trigger: str = "api"
    occurrence: str | None = None
    priority: int = 0
    concurrency_key: str | None = None


class ExecutionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an execution without reading its journal.

    `epoch` is the fencing token: raised by each dispatch, 0 before the first. `last_seq` is the position of the last
    committed fact. `outputs` is set when it succeeded, `error` (JSON of `ErrorInfo`) when it failed, or was cancelled
    for a reason that was given.
    """

    id: str
    workflow: str
    version: str
    digest: str
    status: Status
    inputs: bytes
    seed: int
    epoch: int
    last_seq: int
    engine: str | None
    trigger: str
    idempotency_key: str | None
    occurrence: str | None
    outputs: bytes | None
    error: bytes | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    priority: int = 0
    concurrency_key: str | None = None


class Terminal(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended: written with the batch that holds its last fact. `error` of a cancelled one tells why."""

    status: Status
    at: int
    outputs: bytes | None = None
    error: bytes | None = None


class KnownResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result (JSON) of a node that may be used again under `digest`, until `until` (None: for ever).

    `execution` found it, at `found_at`.
    """

    digest: str
    result: bytes
    execution: str
    found_at: int
    until: int | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive facts of one execution, the first at position `first_seq`.

    `applied` holds the ids of the inbox items that facts of the batch cite: they are delivered no more. `terminal` is
    given when facts of the batch end the execution; its inbox goes then, up to the first retry. `goes_on` is given when
    they let it go on after it had ended. Of both, the one that comes last in the batch counts. `results` are those in
    it that may be used again: they become known together with the facts.
    """

    execution: str
    epoch: int
    first_seq: int
    facts: Sequence[bytes]
    terminal: Terminal | None = None
    applied: Sequence[str] = ()
    goes_on: bool = False
    results: Sequence[KnownResult] = ()


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The store's answer to one batch. `last_seq` is the position of the last committed fact after it.

    `committed`: everything in the batch is in the store now (also when it had been there before, and even if the
    execution has ended since: an engine whose acknowledgement was lost sends its last facts again).
    `gap`: facts before `first_seq` are missing; send again from `last_seq + 1`.
    `fenced`: the batch has another epoch than the execution, or the execution has ended before it, or no engine has
    it (it was never dispatched, or was released), or it is unknown; `epoch` is the one in force (0: unknown).
    """

    outcome: Literal["committed", "gap", "fenced"]
    last_seq: int
    epoch: int
    new_from: int = 0
    """Position of the first fact that this call added; 0 when it added none."""
    first_position: int = 0
    """Global position of that fact; the others follow it one by one."""
    record: ExecutionRecord | None = None
    """Given when the facts alone do not tell what becomes of the execution. It is `queued` again: it has ended, but a
    retry waits in its inbox. Or it is as it had ended before, since the retry for which it was queued was refused."""


class StoredFact(msgspec.Struct, frozen=True, kw_only=True):
    """One committed fact. `position` orders all facts of the store by commit."""

    position: int
    execution: str
    epoch: int
    seq: int
    payload: bytes


class LogRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log stream. `payload` is JSON of `LogLine`; `id` orders the lines of an execution."""

    id: int
    execution: str
    epoch: int
    node: str
    payload: bytes


class InboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked of an execution, kept until a fact cites it.

    `payload` is JSON of `dagengine.machine.operations.Operation`, `kind` its kind: `cancel`, `pause`, `retry`, ….
    """

    id: str
    execution: str
    kind: str
    payload: bytes
    created_at: int


class Store(Protocol):
    """What the orchestrator remembers."""

    async def open(self) -> None:
        """Connect, lock where only one process may write, and migrate the schema. Raises StoreError."""

    async def close(self) -> None:
        """Finish the writes under way and let go of everything. Idempotent."""

    async def incarnation(self) -> str:
        """Id of this store's contents; another one after a restore from a backup."""

    # --- workflows ---

    async def add_version(self, record: VersionRecord) -> bool:
        """Register a version; False when it was there with the same digest. VersionConflict with another digest."""

    async def versions(self, workflow: str | None = None) -> list[Version]:
        """All versions (of one workflow), in the order of registration. Empty when there is none."""

    async def version(self, workflow: str, version: str) -> VersionRecord | None:
        """One version."""

    async def remove_versions(self, workflow: str, version: str | None, *, force: bool) -> int:
        """Remove one version, or all of them with their workflow; how many went.

        InUse when one still has executions that have not ended, unless `force`. Executions stay readable: they hold
        on to the document of their version.
        """

    # --- executions ---

    async def create_execution(self, new: NewExecution) -> tuple[ExecutionRecord, bool]:
        """Record an execution as `queued`; True with it when it is new.

        When the idempotency key or the occurrence is known, the execution that has it is returned with False.
        Raises StoreError when the digest is that of no version that was ever registered, or the id is taken.
        """

    async def known_execution(
        self, workflow: str, *, idempotency_key: str | None = None, occurrence: str | None = None
    ) -> ExecutionRecord | None:
        """The execution that `create_execution` would answer with instead of making one, if there is one."""

    async def execution(self, execution: str) -> ExecutionRecord | None:
        """One execution."""

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: Sequence[Status] = (),
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[ExecutionRecord]:
        """Executions, newest first; `before` is `(created_at, id)` of the last one of the page before."""

    async def unfinished(self) -> list[ExecutionRecord]:
        """Every execution that has not ended, oldest first."""

    async def document(self, digest: str) -> bytes | None:
        """The canonical document with this digest, also after its version was removed."""

    async def dispatch(self, executions: Sequence[str], engine: str) -> dict[str, ExecutionRecord]:
        """Assign executions to `engine` with their next epoch; those that have ended meanwhile are left out."""

    async def release(self, execution: str, epoch: int) -> None:
        """Take an execution back from its engine (which refused it), if `epoch` is still in force."""

    async def append(self, batches: Sequence[Batch]) -> list[Appended]:
        """Append facts, conditional on epoch and position; one answer per batch, in order.

        The first fact of an execution makes it `running`, `started_at` the fact's own time; `terminal` ends it. When a
        retry is in the inbox that no fact cites, it is `queued` right after it has ended. An execution that was queued
        for a retry is `running` when a batch `goes_on`, and as it was before when no retry is left in its inbox.
        """

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[StoredFact]:
        """Committed facts of an execution after position `after`, in order; at least one if there is one.

        At most `limit`, and no more than `PAGE_BYTES` of them: only an empty page tells that there are no more.
        """

    # --- inbox, logs, triggers ---

    async def add_inbox(self, item: InboxItem) -> bool:
        """Keep a command for an execution; False when the execution has ended or is unknown.

        A command whose id is kept already is kept once, and answered with True.
        """

    async def reopen(self, item: InboxItem) -> tuple[ExecutionRecord, bool] | None:
        """Keep a retry. An execution that has ended is `queued` again: True with its record. None when it is unknown.

        It is as if it had not ended, but for `former_end`; no engine has it. One that has not ended gets the item, as
        from `add_inbox`, and False.
        """

    async def former_end(self, execution: str) -> Terminal | None:
        """How an execution had ended that is queued for a retry, until a batch of it `goes_on`."""

    async def inbox(self, execution: str | None = None) -> list[InboxItem]:
        """Commands that no committed fact cites yet, oldest first."""

    async def end_undispatched(self, batch: Batch, *, retries: bool = False) -> bool:
        """End an execution that no engine has by a batch; False when one has it, or it has ended, or is unknown.

        False also when the epoch of the batch is not in force, or its first fact does not follow the last committed
        one. Its inbox goes. False when a retry is in it that the batch does not cite, unless with `retries`.
        A batch without `terminal` is for an execution that was queued for a retry: it is as it had ended before.
        """

    async def known_results(self, digests: Collection[str], *, now: int) -> dict[str, KnownResult]:
        """The results that are known under some digests and have not expired, by digest."""

    async def add_logs(self, execution: str, epoch: int, lines: Sequence[tuple[str, bytes]]) -> None:
        """Keep log lines, each `(node, JSON of LogLine)`. Unknown executions are ignored."""

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[LogRecord]:
        """Log lines of an execution (of one node) with ids after `after`, in order. Pages are those of `facts`."""

    async def last_occurrence(self, trigger: str) -> int | None:
        """Time of the latest occurrence of a trigger that was recorded, or None."""

    async def record_occurrence(self, trigger: str, at: int) -> None:
        """Remember that the occurrences of `trigger` up to `at` have been dealt with. Never goes backwards."""
