"""What a store keeps and gives back: executions, facts, versions, commands, replicas, and what it is asked to write.

Every adapter of the store port takes and makes these. The port itself is `base`, which exports them too.

Times are microseconds since the Unix epoch. Values (`inputs`, `outputs`, documents, facts) are JSON bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

__all__ = [
    "Appended",
    "Batch",
    "ExecutionRecord",
    "Expired",
    "Head",
    "InboxItem",
    "KnownResult",
    "LogRecord",
    "Membership",
    "NewExecution",
    "Replica",
    "Status",
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
    `concurrency_key` is what the key of its workflow's `concurrency` came to for it; None where there is none. With
    `most`, it is not recorded while as many that have this key have not ended. `owned` says whether the replica that
    records it owns it; if not, it can be claimed at once.
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
    most: int | None = None
    owned: bool = True


class ExecutionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an execution without reading its journal.

    `epoch` is the fencing token: raised by each dispatch and by each takeover, 0 before the first. `dispatch_epoch` is
    that of the latest dispatch: all facts since then were made by `engine`, so what it holds under an epoch from there
    on it may go on with. `last_seq` is the position of the last committed fact. `outputs` is set when it succeeded,
    `error` (JSON of `ErrorInfo`) when it failed, or was cancelled for a reason that was given. `owner` is the id of the
    replica that owns it; without one, `wake_at` is when it can be claimed. Neither when it has ended.
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
    owner: str | None = None
    dispatch_epoch: int = 0
    wake_at: int | None = None


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
    it that may be used again: they become known together with the facts. `blobs` are the digests of the large values
    that facts of it cite: they were put before.
    """

    execution: str
    epoch: int
    first_seq: int
    facts: Sequence[bytes]
    terminal: Terminal | None = None
    applied: Sequence[str] = ()
    goes_on: bool = False
    results: Sequence[KnownResult] = ()
    blobs: Sequence[str] = ()


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
    retry waits in its inbox. Or it is as it had ended before, since the retry for which it was queued was refused. Or
    the batch is one with a turn (`terminal`, `goes_on`) that was in the store before: its first answer may be lost."""


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


class Head(msgspec.Struct, frozen=True):
    """Where the journal of an execution ends, and what became of it."""

    last_seq: int
    status: Status


class Outstanding(msgspec.Struct, frozen=True, kw_only=True):
    """How many executions of a version an engine has, or, where that is None, wait for one."""

    digest: str
    engine: str | None
    executions: int


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """An orchestrator process over this store.

    `id` is new for each process, `name` is for people. `joined_at` and `until` (the end of its lease) are on the
    store's clock. `leads` says whether it is the one that does what only one may do.
    """

    id: str
    name: str
    joined_at: int
    until: int
    leads: bool


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """Of the replica that asks. `term` is set when it leads: the fencing token of that, higher for each leader.

    `highest` is the highest term that anybody has led under; 0 when nobody ever has. `others` is how many other
    replicas there are. `now` and `until` (the end of its lease) are on the store's clock.
    """

    term: int | None
    highest: int
    others: int
    now: int
    until: int


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that has ended and need not be kept. `facts` is how many it has."""

    id: str
    workflow: str
    status: Status
    finished_at: int
    facts: int
