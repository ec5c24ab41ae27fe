"""What one session still has to send to its engine, merged into as few messages as possible.

A message is obeyed field by field, not in the order in which its parts were sent. So parts are merged only where that
changes nothing for any execution: a `Start` and the `Drop` that was sent after it never share a message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError

__all__ = ["Outbox"]


_MOST_BYTES: Final = 32 << 20
"""Bytes that wait to be sent before those who have much to send are to wait: histories with large values."""


class Outbox:
    """The outgoing half of one session: `put` without waiting, `next` when the message before is on its way.

    A lease comes in a message of its own; it leaves with the next one.
    """

    def __init__(self) -> None:
        self._messages: deque[session_pb2.OrchestratorMessage] = deque()
        self._waiting = 0
        """Bytes that wait to be sent."""
        self._room = asyncio.Event()
        self._room.set()
        self._wake = asyncio.Event()
        # About the last message of the queue, which alone may still grow:
        self._size = 0
        self._fields: dict[str, int] = {}
        """The highest field that each execution has in it."""

    def put(self, message: session_pb2.OrchestratorMessage) -> None:
        """Queue a message, in parts if it is large. TransportError, and nothing is queued, when a part is too large."""
        size = message.ByteSize()
        if message.HasField("lease") and self._messages:
            # It is about no execution alone, and an engine waits for it: nothing that is queued may hold it up.
            self._messages[0].lease.CopyFrom(message.lease)
        elif size > limits.BATCH_BYTES:
            for part in _parts(message):
                self._append(part, part.ByteSize())
        elif size:
            self._append(message, size)

    def _append(self, message: session_pb2.OrchestratorMessage, size: int) -> None:
        fields = _fields(message)
        fits = self._size + size <= limits.BATCH_BYTES
        if self._messages and fits and all(low >= self._fields.get(name, 0) for name, (low, _) in fields.items()):
            self._messages[-1].MergeFrom(message)
            self._size += size
        else:
            # A copy: the sender's message is its own, and this one may grow.
            copy = session_pb2.OrchestratorMessage()
            copy.CopyFrom(message)
            self._messages.append(copy)
            self._size = size
            self._fields = {}
        self._waiting += size
        if self._waiting > _MOST_BYTES:
            self._room.clear()
        for name, (_, high) in fields.items():
            self._fields[name] = max(high, self._fields.get(name, 0))
        self._wake.set()

    async def next(self) -> session_pb2.OrchestratorMessage:
        """The next message, waiting until there is one."""
        while not self._messages:
            self._wake.clear()
            await self._wake.wait()
        message = self._messages.popleft()
        self._waiting -= message.ByteSize()
        if not self._messages:
            self._waiting = 0  # merged messages are not quite the sum of their parts
        if self._waiting <= _MOST_BYTES:
            self._room.set()
        return message

    async def room(self) -> None:
        """Return when no more waits to be sent than may; for those who have much to send. Or when it is closed."""
        await self._room.wait()

    def close(self) -> None:
        """Nothing more is sent: let go of those who wait for that."""
        self._messages.clear()
        self._waiting = 0
        self._room.set()


def _parts(message: session_pb2.OrchestratorMessage) -> list[session_pb2.OrchestratorMessage]:
    """A message per command, in the order in which they are obeyed; long histories are cut up, too."""
    parts = []
    for field, commands in message.ListFields():
        for command in commands:
            for piece in _pieces(command) if field.name == "histories" else [command]:
                part = session_pb2.OrchestratorMessage()
                getattr(part, field.name).append(piece)
                parts.append(part)
    for part in parts:
        size = part.ByteSize()
        if size > limits.MAX_MESSAGE_BYTES:
            raise TransportError(
                f"a message of {size:,} bytes is more than the {limits.MAX_MESSAGE_BYTES:,} that a session carries"
            )
    return parts


def _pieces(history: session_pb2.History) -> Iterator[session_pb2.History]:
    facts, size, first_seq = list[bytes](), 0, history.first_seq
    for at, fact in enumerate(history.facts, start=history.first_seq):
        if facts and size + len(fact) > limits.BATCH_BYTES:
            yield _piece(history, first_seq, facts)
            facts, size, first_seq = [], 0, at
        facts.append(fact)
        size += len(fact)
    yield _piece(history, first_seq, facts)


def _piece(history: session_pb2.History, first_seq: int, facts: list[bytes]) -> session_pb2.History:
    return session_pb2.History(execution=history.execution, epoch=history.epoch, first_seq=first_seq, facts=facts)


def _fields(message: session_pb2.OrchestratorMessage) -> dict[str, tuple[int, int]]:
    """The lowest and the highest field of each execution in a message, counting those whose order matters.

    Acknowledgements, requests to send again and deliveries may come later or sooner: they count under the epoch that
    they name only, or are delivered again. What an engine is to become free for is of no use once that has come.
    """
    fields: dict[str, tuple[int, int]] = {}
    ordered = (message.drops, message.adopts, message.histories, message.starts)
    for number, commands in enumerate(ordered, start=session_pb2.OrchestratorMessage.DROPS_FIELD_NUMBER):
        for command in commands:
            low, _ = fields.get(command.execution, (number, number))
            fields[command.execution] = (low, number)
    return fields
