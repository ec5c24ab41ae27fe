"""What one session still has to send to its engine, merged into as few messages as possible.

A message is obeyed field by field, not in the order in which its parts were sent. So parts are merged only where that
changes nothing for any execution: a `Start` and the `Drop` that was sent after it never share a message.
"""

from __future__ import annotations

import asyncio
from collections import deque

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError

__all__ = ["Outbox"]


class Outbox:
    """The outgoing half of one session: `put` without waiting, `next` when the message before is on its way."""

    def __init__(self) -> None:
        self._messages: deque[session_pb2.OrchestratorMessage] = deque()
        self._wake = asyncio.Event()
        # About the last message of the queue, which alone may still grow:
        self._size = 0
        self._fields: dict[str, int] = {}
        """The highest field that each execution has in it."""

    def put(self, message: session_pb2.OrchestratorMessage) -> None:
        """Queue a message. TransportError when it is larger than a session carries."""
        size = message.ByteSize()
        if size > limits.MAX_MESSAGE_BYTES:
            raise TransportError(
                f"a message of {size:,} bytes is more than the {limits.MAX_MESSAGE_BYTES:,} that a session carries"
            )
        if size == 0:
            return
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
        for name, (_, high) in fields.items():
            self._fields[name] = max(high, self._fields.get(name, 0))
        self._wake.set()

    async def next(self) -> session_pb2.OrchestratorMessage:
        """The next message, waiting until there is one."""
        while not self._messages:
            self._wake.clear()
            await self._wake.wait()
        return self._messages.popleft()


def _fields(message: session_pb2.OrchestratorMessage) -> dict[str, tuple[int, int]]:
    """The lowest and the highest field of each execution in a message, counting those whose order matters.

    Acknowledgements, requests to send again and deliveries may come later or sooner: they count under the epoch that
    they name only, or are delivered again.
    """
    fields: dict[str, tuple[int, int]] = {}
    ordered = (message.drops, message.adopts, message.histories, message.starts)
    for number, commands in enumerate(ordered, start=session_pb2.OrchestratorMessage.DROPS_FIELD_NUMBER):
        for command in commands:
            low, _ = fields.get(command.execution, (number, number))
            fields[command.execution] = (low, number)
    return fields
