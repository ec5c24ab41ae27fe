"""The messages that the dispatcher sends, each made in one place."""

from __future__ import annotations

from collections.abc import Iterable

from dagengine.wire.v1 import session_pb2
from orchestrator.store.base import InboxItem, StoredFact

__all__ = ["ack", "delivery", "drop", "history", "resend"]


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


def history(execution: str, epoch: int, page: list[StoredFact]) -> session_pb2.OrchestratorMessage:
    """Committed facts of an execution that is about to be started again."""
    batch = session_pb2.History(
        execution=execution, epoch=epoch, first_seq=page[0].seq, facts=[fact.payload for fact in page]
    )
    return session_pb2.OrchestratorMessage(histories=[batch])
