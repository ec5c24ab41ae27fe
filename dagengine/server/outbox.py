"""What one session still has to tell its orchestrator, gathered into as few messages as possible.

The host and the journals put things in, without waiting. The session's writer asks for the `next` message when the one
before is on its way: whatever has come together meanwhile, over all executions, goes into it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from dagengine.errors import JournalError
from dagengine.journal.session import SessionJournal
from dagengine.server.logs import LogBuffer
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2

__all__ = ["Outbox", "PoolSource", "Source"]


class Source(Protocol):
    """An execution that has something to send (`dagengine.server.held.HeldExecution`)."""

    @property
    def execution(self) -> str:
        """Its id."""

    @property
    def journal(self) -> SessionJournal:
        """Its facts."""

    @property
    def log(self) -> LogBuffer:
        """Its log lines."""

    @property
    def outbox(self) -> Outbox | None:
        """That of the session that it answers to now."""

    def to_park(self) -> session_pb2.Park | None:
        """What tells that it only waits; None when that is not so (any more), or was told."""

    def fail(self, error: Exception, /) -> None:
        """Its facts cannot be sent."""


class PoolSource(Protocol):
    """What has something to say about pools (`dagengine.server.gate.SessionGate`)."""

    def compose(self, message: session_pb2.EngineMessage, /) -> None:
        """Put all of it into a message."""


class Outbox:
    """The outgoing half of one session. `load()` gives the report that messages carry when it has changed."""

    def __init__(self, load: Callable[[], session_pb2.Load]) -> None:
        self._load = load
        self._reported: session_pb2.Load | None = None
        self._refusals: list[session_pb2.Refusal] = []
        # Dicts are queues here that hold each execution once.
        self._facts: dict[str, Source] = {}
        self._logs: dict[str, Source] = {}
        self._parks: dict[str, Source] = {}
        self._pools: PoolSource | None = None
        self._lookups: list[session_pb2.ResultLookup] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._tick: asyncio.TimerHandle | None = None
        self._every = limits.REPORT_SECONDS
        self._rearm()

    def facts(self, held: Source) -> None:
        """`held` has facts to send."""
        self._facts[held.execution] = held
        self._wake.set()

    def logs(self, held: Source) -> None:
        """`held` has log lines to send."""
        self._logs[held.execution] = held
        self._wake.set()

    def park(self, held: Source) -> None:
        """`held` seems to do nothing but wait."""
        self._parks[held.execution] = held
        self._wake.set()

    def refuse(self, refusal: session_pb2.Refusal) -> None:
        """Send a refusal."""
        self._refusals.append(refusal)
        self._wake.set()

    def pools(self, source: PoolSource, /) -> None:
        """`source` has something to say about pools."""
        self._pools = source
        self._wake.set()

    def look_up(self, lookup: session_pb2.ResultLookup) -> None:
        """Ask for a result that was found before."""
        self._lookups.append(lookup)
        self._wake.set()

    def report(self) -> None:
        """The load has changed."""
        self._wake.set()

    def report_every(self, seconds: float) -> None:
        """Report at least so often, and not less often than always."""
        every = min(seconds, limits.REPORT_SECONDS)
        if every < self._every and self._tick is not None:
            self._tick.cancel()
            self._tick = asyncio.get_running_loop().call_later(every, self._rearm)
        self._every = every

    def close(self) -> None:
        """Let `next` give what is there already, and then None."""
        self._closed = True
        if self._tick is not None:
            self._tick.cancel()
        self._wake.set()

    async def next(self) -> session_pb2.EngineMessage | None:
        """The next message, waiting until there is something to say. None when it is closed and empty."""
        while True:
            message = self._compose()
            if message is not None:
                return message
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()

    def _compose(self) -> session_pb2.EngineMessage | None:
        message = session_pb2.EngineMessage()
        # What was printed before a fact is in the buffer by now, even if its notice is still on its way here.
        self._logs.update((name, held) for name, held in self._facts.items() if held.log.pending)
        room = self._add_logs(message, limits.BATCH_BYTES // 4)
        self._add_facts(message, limits.BATCH_BYTES - limits.BATCH_BYTES // 4 + room)
        message.refusals.extend(self._refusals)
        self._refusals.clear()
        if self._pools is not None:
            self._pools.compose(message)
            self._pools = None
        message.result_lookups.extend(self._lookups)
        self._lookups.clear()
        self._add_parks(message)
        load = self._load()
        if load != self._reported:
            message.load.CopyFrom(load)
            self._reported = load
            return message
        return message if message.ListFields() else None

    def _add_logs(self, message: session_pb2.EngineMessage, room: int) -> int:
        """Add lines up to `room` bytes; what is left of it."""
        while self._logs and room > 0:
            held = self._logs.pop(next(iter(self._logs)))
            lines = held.log.take(room)
            room -= lines.size
            message.logs.add(
                execution=held.execution, epoch=held.journal.epoch, lines=lines.lines, dropped=lines.dropped
            )
            if held.log.pending:
                self._logs[held.execution] = held
        return max(room, 0)

    def _add_facts(self, message: session_pb2.EngineMessage, room: int) -> None:
        """Add facts up to `room` bytes, in turns between executions."""
        number = limits.BATCH_FACTS
        while self._facts and room > 0 and number > 0:
            held = self._facts.pop(next(iter(self._facts)))
            journal = held.journal
            if held.outbox is not self or not journal.pending:  # another session has it, or it was dropped
                continue
            try:
                batch = journal.take(max_facts=number, max_bytes=room)
            except JournalError as exc:
                held.fail(exc)  # it alone: the session goes on
                continue
            room -= batch.size
            number -= len(batch.facts)
            message.facts.add(
                execution=held.execution, epoch=journal.epoch, first_seq=batch.first_seq, facts=batch.facts
            )
            if journal.pending:  # the message is full; the others come first in the next one
                self._facts[held.execution] = held
                break

    def _add_parks(self, message: session_pb2.EngineMessage) -> None:
        for held in self._parks.values():
            if held.outbox is self and (park := held.to_park()) is not None:
                message.parks.append(park)
        self._parks.clear()

    def _rearm(self) -> None:
        """Report from time to time also when nothing changes: it shows that this engine lives."""
        self._reported = None
        self._wake.set()
        self._tick = asyncio.get_running_loop().call_later(self._every, self._rearm)
