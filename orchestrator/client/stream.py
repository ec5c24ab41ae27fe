"""Reading a stream of server-sent events, and going on with it after a cut.

Only what the orchestrator writes is understood: fields `id`, `event`, `epoch` and `data`, lines ended by a newline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from orchestrator.errors import TransportError
from orchestrator.verbs import FactView

if TYPE_CHECKING:
    from orchestrator.client.connection import Connection

__all__ = ["PAUSES", "follow"]

PAUSES: Final = (0.1, 0.3, 1.0, 2.0, 4.0)
"""Seconds between attempts that bring no new event; after the last one the stream is given up."""

_SILENCE: Final = 45.0
"""Seconds without so much as a heartbeat (one comes every 15 s) after which a stream counts as cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    name: str
    data: bytes
    id: int
    epoch: int


async def follow(connection: Connection, path: str, *, after: int) -> AsyncIterator[FactView]:
    """The facts of the stream at `path` from position `after` on, until its `end`.

    Raises what the orchestrator refuses with, or TransportError when it stays out of reach.
    """
    import httpx

    failures = 0
    while True:
        reason: Exception = TransportError(f"the stream of events from {connection.url} ended too early")
        try:
            headers = {"accept": "text/event-stream", "last-event-id": str(after)}
            async with connection.stream(path, headers=headers, silence=_SILENCE) as chunks:
                async for event in _events(chunks):
                    if event.name == "end":
                        return
                    after = event.id
                    failures = 0
                    yield FactView(seq=event.id, epoch=event.epoch, fact=msgspec.Raw(event.data))
        except httpx.TransportError as exc:
            reason = exc
        if failures == len(PAUSES):
            if isinstance(reason, TransportError):
                raise reason
            raise connection.unreachable(reason) from reason
        await asyncio.sleep(PAUSES[failures])
        failures += 1


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[_Event]:
    rest = b""
    async for chunk in chunks:
        *complete, rest = (rest + chunk).split(b"\n\n")
        for block in complete:
            event = _parse(block)
            if event is not None:
                yield event


def _parse(block: bytes) -> _Event | None:
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        fields[name] = fields[name] + b"\n" + value if name == b"data" and name in fields else value
    if b"data" not in fields:
        return None  # a heartbeat, or the advice when to come back
    return _Event(
        name=fields.get(b"event", b"message").decode(),
        data=fields[b"data"],
        id=int(fields.get(b"id", b"0")),
        epoch=int(fields.get(b"epoch", b"0")),
    )
