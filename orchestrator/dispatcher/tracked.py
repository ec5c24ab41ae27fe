"""What the dispatcher keeps in memory of every execution that has not ended, and of every workflow version they run."""

from __future__ import annotations

from typing import Final

import msgspec

from dagengine.events import facts
from dagengine.spec.model import Document
from orchestrator.store.base import Appended, Batch, ExecutionRecord, InboxItem

__all__ = ["Plan", "Tracked"]

_PROGRESS: Final = b'{"type":"NodeSucceeded"'


class Plan(msgspec.Struct, frozen=True, weakref=True):
    """What dispatching a workflow version takes: its canonical document and the executors that it needs."""

    reference: str
    digest: str
    canonical: bytes
    executors: frozenset[str]

    @classmethod
    def of(cls, document: Document) -> Plan:
        """The plan of a document."""
        executors = frozenset(node.executor.type for node in document.spec.nodes)
        return cls(document.reference, document.digest, document.canonical, executors)


class Tracked:
    """One execution that has not ended. `record` follows the store: it is replaced after each commit."""

    __slots__ = ("dispatching", "engine", "excluded", "inbox", "losses", "plan", "record")

    def __init__(self, record: ExecutionRecord, plan: Plan) -> None:
        self.record = record
        self.plan = plan
        self.engine = record.engine
        """The engine that is meant to have it; None while it waits to be placed."""
        self.dispatching = False
        """Whether it is on its way to `engine`, its start not sent yet. Until then it is the placer's alone."""
        self.excluded: set[str] = set()
        """Engines that have said that they cannot run it, or have broken down on it."""
        self.losses = 0
        """Engines that were lost or broke down while they had it, since a node of it last succeeded."""
        self.inbox: dict[str, InboxItem] = {}
        """Commands that no committed fact cites yet, oldest first; sent after each start and each adoption."""

    def committed(self, batch: Batch, appended: Appended) -> None:
        """Follow the store: `batch` was appended, and perhaps was the last one."""
        changes: dict[str, object] = {"last_seq": appended.last_seq}
        if self.record.status == "queued":
            changes |= {"status": "running", "started_at": facts.decode(batch.facts[0]).at}
        if (terminal := batch.terminal) is not None:
            changes |= {"status": terminal.status, "finished_at": terminal.at}
            changes |= {"outputs": terminal.outputs, "error": terminal.error}
        self.record = msgspec.structs.replace(self.record, **changes)
        if self.losses and any(payload.startswith(_PROGRESS) for payload in batch.facts):
            self.losses = 0
        for command in batch.applied:
            self.inbox.pop(command, None)
