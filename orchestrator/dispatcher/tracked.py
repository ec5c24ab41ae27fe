"""What the dispatcher keeps in memory of every execution that it owns, and of every workflow version they run."""

from __future__ import annotations

from typing import Final

import msgspec

from dagengine.admission.concurrency import OnConflict
from dagengine.events import facts
from dagengine.spec.model import Document
from orchestrator.dispatcher.placement import Needs
from orchestrator.store.base import Appended, Batch, ExecutionRecord, InboxItem

__all__ = ["Limit", "Plan", "Tracked", "waits_for_retry"]

_PROGRESS: Final = b'{"type":"NodeSucceeded"'


class Limit(msgspec.Struct, frozen=True):
    """What a workflow declares under `spec.concurrency`, but for the key."""

    max: int
    on_conflict: OnConflict


class Plan(msgspec.Struct, frozen=True, weakref=True):
    """What dispatching a workflow version takes: its canonical document, and what it needs of an engine.

    `needs.pools` are those that the engine must have itself, `shared_pools` those over the whole system.
    """

    reference: str
    digest: str
    canonical: bytes
    needs: Needs
    shared_pools: frozenset[str] = frozenset()
    concurrency: Limit | None = None

    @classmethod
    def of(cls, document: Document, shared_pools: frozenset[str] = frozenset()) -> Plan:
        """The plan of a document, while `shared_pools` are the names of the pools over the whole system."""
        nodes = (*document.spec.nodes, *document.spec.on_exit)
        pools = frozenset(node.pool for node in nodes if node.pool is not None)
        declared = document.spec.concurrency
        return cls(
            document.reference,
            document.digest,
            document.canonical,
            Needs(
                executors=frozenset(node.executor.type for node in nodes if node.executor.type != "wait"),
                pools=pools - shared_pools,
                labels=document.spec.engine.all_labels,
                exclusive=document.spec.engine.exclusive,
            ),
            pools & shared_pools,
            None if declared is None else Limit(declared.max, declared.on_conflict),
        )


def waits_for_retry(record: ExecutionRecord) -> bool:
    """Whether an execution had ended, and no fact tells yet that it goes on."""
    return record.status == "queued" and record.last_seq > 0


class Tracked:
    """One execution that is owned here. `record` follows the store: it is replaced after each commit."""

    __slots__ = ("dispatching", "done", "engine", "excluded", "inbox", "losses", "plan", "record", "since", "went_on")

    def __init__(self, record: ExecutionRecord, plan: Plan) -> None:
        self.record = record
        self.plan = plan
        self.engine = record.engine
        """The engine that is meant to have it; None while it waits to be placed."""
        self.dispatching = False
        """Whether it is on its way to `engine`, its start not sent yet. Until then it is the placer's alone."""
        self.went_on = record.started_at or record.created_at
        """When it began, or began anew after it had ended; not known of the time before this process."""
        self.since = record.created_at
        """Since when it counts as waiting, for its place among others that wait."""
        self.excluded: set[str] = set()
        """Engines that have said that they cannot run it, or have broken down on it."""
        self.losses = 0
        """Engines that were lost or broke down while they had it, since a node of it last succeeded."""
        self.inbox: dict[str, InboxItem] = {}
        """Commands that no committed fact cites yet, oldest first; sent after each start and each adoption."""
        self.done: set[str] = set()
        """Ids of commands that were in the inbox, and are in none any more."""

    @property
    def waits_for_retry(self) -> bool:
        """Whether it had ended, and no fact tells yet that it goes on."""
        return waits_for_retry(self.record)

    def committed(self, batch: Batch, appended: Appended) -> None:
        """Follow the store: `batch` was appended, and perhaps ended it, or let it go on."""
        changes: dict[str, object] = {"last_seq": appended.last_seq}
        if batch.goes_on or (self.record.status == "queued" and not self.waits_for_retry):
            began = facts.decode(batch.facts[0]).at
            changes |= {"status": "running", "started_at": self.record.started_at or began}
            self.went_on = began
        if (terminal := batch.terminal) is not None:
            changes |= {"status": terminal.status, "finished_at": terminal.at}
            changes |= {"outputs": terminal.outputs, "error": terminal.error}
        self.record = appended.record or msgspec.structs.replace(self.record, **changes)
        if self.losses and any(payload.startswith(_PROGRESS) for payload in batch.facts):
            self.losses = 0
        for command in batch.applied:
            self.inbox.pop(command, None)
            self.done.add(command)
        if batch.terminal is not None:
            while self.inbox and next(iter(self.inbox.values())).kind != "retry":
                command = next(iter(self.inbox))
                del self.inbox[command]
                self.done.add(command)
