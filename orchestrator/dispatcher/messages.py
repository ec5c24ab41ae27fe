"""The messages that the dispatcher sends, each made in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.store.base import InboxItem, StoredFact

__all__ = ["ack", "delivery", "drop", "histories", "resend"]


def ack(execution: str, epoch: int, seq: int) -> session_pb2.OrchestratorMessage:
    """Facts up to and including `seq` are committed."""
    return session_pb2.OrchestratorMessage(acks=[session_pb2.Ack(execution=execution, epoch=epoch, seq=seq)])


def resend(execution: str, epoch: int, from_seq: int) -> session_pb2.OrchestratorMessage:
    """Facts from `from_seq` on are missing."""
    again = session_pb2.Resend(execution=execution, epoch=epoch, from_seq=from_seq)
    return session_pb2.OrchestratorMessage(resends=[again])


def drop(execution: str, epoch: int) -> session_pb2.OrchestratorMessage:
    """The engine must forget the execution."""
    return session_pb2.OrchestratorMessage(drops=[session_pb2.Drop(execution=execution, epoch=epoch)])


def delivery(items: Iterable[InboxItem]) -> session_pb2.OrchestratorMessage:
    """Inbox items for executions that the engine has."""
    return session_pb2.OrchestratorMessage(
        deliveries=[
            session_pb2.Delivery(execution=item.execution, id=item.id, kind=item.kind, payload=item.payload)
            for item in items
        ]
    )


def histories(execution: str, epoch: int, page: Sequence[StoredFact]) -> Iterator[session_pb2.OrchestratorMessage]:
    """Committed facts of an execution that is about to be started again, in messages that a session carries."""
    first, size = 0, 0
    for at, fact in enumerate(page):
        if size + len(fact.payload) > limits.BATCH_BYTES and at > first:
            yield _history(execution, epoch, page[first:at])
            first, size = at, 0
        size += len(fact.payload)
    if page:
        yield _history(execution, epoch, page[first:])


def _history(execution: str, epoch: int, part: Sequence[StoredFact]) -> session_pb2.OrchestratorMessage:
    batch = session_pb2.History(
        execution=execution, epoch=epoch, first_seq=part[0].seq, facts=[fact.payload for fact in part]
    )
    return session_pb2.OrchestratorMessage(histories=[batch])
