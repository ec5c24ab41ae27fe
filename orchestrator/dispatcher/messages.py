"""The messages that the dispatcher sends, each made in one place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.store.base import ExecutionRecord, InboxItem

__all__ = ["ack", "adopt", "delivery", "drop", "histories", "lease", "resend", "reserve"]


def ack(execution: str, epoch: int, seq: int, *, position: int = 0) -> session_pb2.OrchestratorMessage:
    """Facts up to and including `seq` are committed, that one at a global position (0: not known)."""
    acks = [session_pb2.Ack(execution=execution, epoch=epoch, seq=seq)]
    return session_pb2.OrchestratorMessage(acks=acks, position=position)


def adopt(record: ExecutionRecord) -> session_pb2.OrchestratorMessage:
    """The engine goes on with what it holds of the execution."""
    going_on = session_pb2.Adopt(
        execution=record.id,
        epoch=record.epoch,
        committed_seq=record.last_seq,
        dispatch_epoch=record.dispatch_epoch,
    )
    return session_pb2.OrchestratorMessage(adopts=[going_on])


def lease(beat: int, milliseconds: int) -> session_pb2.OrchestratorMessage:
    """The engine keeps its executions for so long after the report with this beat."""
    return session_pb2.OrchestratorMessage(lease=session_pb2.Lease(beat=beat, milliseconds=milliseconds))


def resend(execution: str, epoch: int, from_seq: int) -> session_pb2.OrchestratorMessage:
    """Facts from `from_seq` on are missing."""
    again = session_pb2.Resend(execution=execution, epoch=epoch, from_seq=from_seq)
    return session_pb2.OrchestratorMessage(resends=[again])


def drop(execution: str, epoch: int) -> session_pb2.OrchestratorMessage:
    """The engine must forget the execution."""
    return session_pb2.OrchestratorMessage(drops=[session_pb2.Drop(execution=execution, epoch=epoch)])


def reserve(execution: str, *, over: bool = False) -> session_pb2.OrchestratorMessage:
    """The engine is to become free for the execution, or (`over`) need not any more."""
    return session_pb2.OrchestratorMessage(reserves=[session_pb2.Reserve(execution=execution, over=over)])


def delivery(items: Iterable[InboxItem]) -> session_pb2.OrchestratorMessage:
    """Inbox items for executions that the engine has."""
    return session_pb2.OrchestratorMessage(
        deliveries=[
            session_pb2.Delivery(execution=item.execution, id=item.id, kind=item.kind, payload=item.payload)
            for item in items
        ]
    )


def histories(
    execution: str, epoch: int, first_seq: int, payloads: Sequence[bytes]
) -> Iterator[session_pb2.OrchestratorMessage]:
    """Committed facts of an execution that is about to be started again, in messages that a session carries."""
    first, size = 0, 0
    for at, payload in enumerate(payloads):
        if size + len(payload) > limits.BATCH_BYTES and at > first:
            yield _history(execution, epoch, first_seq + first, payloads[first:at])
            first, size = at, 0
        size += len(payload)
    if payloads:
        yield _history(execution, epoch, first_seq + first, payloads[first:])


def _history(execution: str, epoch: int, first_seq: int, payloads: Sequence[bytes]) -> session_pb2.OrchestratorMessage:
    batch = session_pb2.History(execution=execution, epoch=epoch, first_seq=first_seq, facts=payloads)
    return session_pb2.OrchestratorMessage(histories=[batch])
