"""The store port: what the orchestrator remembers, and the promises it keeps about it.

Every method is one transaction: when it returns, what it wrote is durable; when it raises, nothing was written.
Concurrent writes may share a transaction (group commit), but one refusal never aborts another's write. The only
exception that leaves a store is `StoreError` (and `VersionConflict`, `InUse`, `AtLimit` where a method names them). A
caller that is cancelled while it waits does not know whether it has written: ask again.

**Replicas and ownership.** Processes that share a store are its replicas. One that has `join`ed has a lease on the
store's clock and renews it. From then on every write of it is fenced: once somebody else has ended its lease, writes
raise `Fenced` and change nothing. An execution that has not ended is owned by one replica, or by none: then it can be
claimed from `wake_at` on, or, without one, waits for something to come into its inbox. Takeover, hand-over and
passivation are all the same thing: the execution is owned by none for a while.

- `take_over` ends leases that have run out: what those replicas owned can be claimed at once.
- `leave` does the same for oneself.
- `park` does it for one execution that only waits, and takes it from its engine.
- `claim` owns what can be claimed. What an engine may still have gets its next epoch with that.

Where only one process can have the store open, whoever joins is the only replica.

Times are microseconds since the Unix epoch. Values (`inputs`, `outputs`, documents, facts) are JSON bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Literal, Protocol

from orchestrator.store.records import (
    TERMINAL,
    Appended,
    Batch,
    ExecutionRecord,
    Expired,
    Head,
    InboxItem,
    KnownResult,
    LogRecord,
    Membership,
    NewExecution,
    Outstanding,
    Replica,
    Status,
    StoredFact,
    Terminal,
    Version,
    VersionRecord,
)

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
    "Outstanding",
    "PAGE_BYTES",
    "Replica",
    "Status",
    "Store",
    "StoredFact",
    "TERMINAL",
    "Terminal",
    "Topic",
    "Version",
    "VersionRecord",
]

Topic = Literal["facts", "inbox", "claimable", "versions", "replicas"]
"""What another replica has changed: facts were committed; something came into an inbox; an execution can be claimed;
versions were registered or removed; a replica came or went."""

PAGE_BYTES: Final = 4 << 20
"""Bytes of payloads in a page of facts or log lines, unless its first is larger by itself."""


class Store(Protocol):
    """What the orchestrator remembers."""

    async def open(self) -> None:
        """Connect, lock where only one process may write, and migrate the schema. Raises StoreError."""

    async def close(self) -> None:
        """Finish the writes under way and let go of everything. Idempotent."""

    async def incarnation(self) -> str:
        """Id of this store's contents; another one after a restore from a backup."""

    async def position(self) -> int:
        """Global position of the last committed fact; 0 when there is none."""

    # --- replicas ---

    async def join(self, replica: str, *, name: str, lease: int, elect: bool = True) -> Membership:
        """Become a replica, with a lease of so many microseconds. From here on every write is fenced.

        The first to join, and whoever renews or joins after the leader has gone, leads; without `elect` neither
        joining nor renewing makes this replica so, but only `lead`. `replica` is an id that none had before. Raises
        StoreError when this process has joined already, unless it has left or was fenced.
        """

    async def renew(self) -> Membership:
        """Renew the lease. One that has run out is renewed as well, if nobody has ended it. Fenced."""

    async def lead(self, term: int) -> Membership:
        """Renew the lease, and lead under `term`, which an election elsewhere has given to this replica. Fenced.

        Only a term higher than any that was led under before makes a leader, and ends the lease of the one that led
        until then: it writes no more. With any other, nothing but the lease changes; the answer tells who leads.
        """

    async def take_over(self) -> list[str]:
        """End the leases of other replicas that have run out; their names. What they owned can be claimed at once."""

    async def leave(self) -> None:
        """End the own lease: what this replica owns can be claimed at once, and it writes no more. Idempotent."""

    async def replicas(self) -> list[Replica]:
        """All replicas, in the order in which they joined."""

    def listen(self, hear: Callable[[Topic], None]) -> None:
        """Have `hear(topic)` called, on the event loop's thread, after other replicas have changed something.

        It only makes sooner what has to be looked at now and then anyway: a call may be lost, or come twice.
        """

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
        Raises AtLimit when `most` that have its key have not ended, StoreError when the digest is that of no version
        that was ever registered, or the id is taken.
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

    async def unfinished(self, *, keyed: bool = False) -> list[ExecutionRecord]:
        """Every execution (with a concurrency key) that has not ended, whoever owns it, oldest first."""

    async def owned(self) -> list[str]:
        """The executions that this replica owns. StoreError when it has not joined."""

    async def heads(self, executions: Collection[str]) -> dict[str, Head]:
        """Where the journals of executions end; unknown ones are left out."""

    async def dispatched(self) -> list[tuple[str, str]]:
        """Every `(engine, digest)` for which an engine has an execution that has not ended, whoever owns that."""

    async def outstanding(self, *, now: int) -> list[Outstanding]:
        """What engines have and what waits for one at `now`, whoever owns it, by version and engine.

        What is parked is left out, and so is what has a concurrency key and no engine: whether that waits for an
        engine only the leader knows. Of what nobody owns, the first 100,000 are counted.
        """

    async def claim(self, *, now: int, limit: int, keyed: bool) -> list[ExecutionRecord]:
        """Own executions that can be claimed at `now`, those that have waited longest first; at most `limit`.

        Those with a concurrency key are left alone unless `keyed`. One that an engine may still have gets its next
        epoch; `dispatch_epoch` stays. Replicas that claim at the same time get different ones.
        """

    async def next_wake(self, *, keyed: bool) -> int | None:
        """When the next execution can be claimed; None when none waits for a time. It may be past."""

    async def park(self, execution: str, epoch: int, last_seq: int, wake_at: int | None) -> bool:
        """Take an execution that only waits from its engine and its owner.

        False, with nothing done, unless `epoch` and `last_seq` are those in force, an engine has it, it has not ended,
        and its inbox is empty.
        """

    async def document(self, digest: str) -> bytes | None:
        """The canonical document with this digest, also after its version was removed."""

    async def dispatch(self, executions: Sequence[str], engine: str) -> dict[str, ExecutionRecord]:
        """Assign executions to `engine` with their next epoch; those that have ended meanwhile are left out.

        So are those that another replica owns, or none.
        """

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

        A command whose id is kept already is kept once, and answered with True. An execution that nobody owns can be
        claimed at once.
        """

    async def reopen(self, item: InboxItem) -> tuple[ExecutionRecord, bool] | None:
        """Keep a retry. An execution that has ended is `queued` again: True with its record. None when it is unknown.

        It is as if it had not ended, but for `former_end`; no engine has it, nobody owns it, and it can be claimed at
        once. One that has not ended gets the item, as from `add_inbox`, and False.
        """

    async def former_end(self, execution: str) -> Terminal | None:
        """How an execution had ended that is queued for a retry, until a batch of it `goes_on`."""

    async def inbox(self, execution: str | None = None) -> list[InboxItem]:
        """Commands that no committed fact cites yet, oldest first: for one execution, or for all that are owned here.

        A store that nobody has joined owns them all.
        """

    async def inboxes(self, executions: Collection[str]) -> list[InboxItem]:
        """The same of some executions, whoever owns them; for each, oldest first."""

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

    # --- large values ---

    async def put_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Keep values by digest; what is there already is left as it is, and counts as put now.

        What no fact cites may be purged once an hour has passed since.
        """

    async def blobs(self, digests: Collection[str]) -> dict[str, bytes]:
        """The values with some digests; unknown ones are left out."""

    # --- retention ---

    async def ended_workflows(self) -> list[str]:
        """Workflows of which executions have ended and are kept, also those that were removed, in order."""

    async def expired(
        self, *, workflow: str | None = None, ended_before: int | None = None, keep: int | None = None, limit: int = 100
    ) -> list[Expired]:
        """Ended executions (of one workflow) that need not be kept, oldest first; at most `limit`.

        Those that ended before a time, and of each workflow those beyond the newest `keep`: either is enough.
        """

    async def purge(self, executions: Sequence[str], *, rows: int) -> int:
        """Delete ended executions with all that belongs to them; how many rows went, at most about `rows`.

        Facts and logs go first, the executions last: call it until it answers 0. From the first call on they are
        unknown, so that nobody goes on with what is left of them. Those that have not ended stay.
        """

    async def purge_logs(self, *, workflow: str | None = None, ended_before: int, rows: int) -> int:
        """Delete log lines of executions (of one workflow) that ended before a time; how many went, at most `rows`."""

    async def purge_blobs(self, *, rows: int) -> int:
        """Delete large values that no fact cites, and that were put an hour ago or before; how many, at most `rows`."""
