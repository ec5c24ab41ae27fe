"""The facts of an execution as server-sent events, while they are committed.

Every event carries `id:` (the fact's `seq`), `event:` (its type), `epoch:` (a field of ours, which other readers of
event streams ignore, as they must) and `data:` (its JSON). After the last fact comes `event: end` with the execution
as its data. A reader that was cut off goes on with `Last-Event-ID`. Comments keep an idle stream alive.

Facts are taken from the verbs by a task of their own and written in batches: a stream of many thousand facts costs
one write for as many of them as are there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from orchestrator.api import examples
from orchestrator.api.operations import LAST_EVENT_ID, Answer, Operation
from orchestrator.api.waiting import Waiting
from orchestrator.errors import RequestError
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import FactView, Verbs

__all__ = ["EventStream", "Events"]

HEARTBEAT: Final = 15.0
"""Seconds of silence after which a comment is sent."""

_AHEAD: Final = 256
_AHEAD_BYTES: Final = 1 << 20
"""Events taken from the verbs before they are written: how many, and how large together, unless one is by itself."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),  # else a proxy may hold events back
]

_log = structlog.get_logger(__name__)


class _Tagged(msgspec.Struct):
    type: str


_tag: Final = msgspec.json.Decoder(_Tagged)


class Events:
    """The operation that streams events."""

    def __init__(self, verbs: Verbs, waiting: Waiting, *, heartbeat: float = HEARTBEAT) -> None:
        self._verbs = verbs
        self._waiting = waiting
        self._heartbeat = heartbeat

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers."""
        return (
            Operation(
                name="streamEvents",
                method="GET",
                path="/api/v1/executions/{id}/events",
                tag="executions",
                summary="Follow an execution",
                description="Server-sent events: `id` is the fact's `seq`, `event` its type, `epoch` its epoch, `data` "
                "its JSON. The stream ends with `event: end`, whose data is the execution. After a cut, send the last "
                f"`id` as `{LAST_EVENT_ID}`. A comment is sent every {HEARTBEAT:g} s of silence.",
                endpoint=self.stream,
                headers=[LAST_EVENT_ID],
                answers={
                    200: Answer(
                        description="The events.",
                        media_type="text/event-stream",
                        example=event(
                            FactView(seq=2, epoch=1, fact=msgspec.Raw(msgspec.json.encode(examples.FACT["fact"])))
                        ).decode(),
                    )
                },
                problems=["not-found"],
            ),
        )

    async def stream(self, request: Request, _query: dict[str, Any]) -> EventStream:
        """The events after the one that the request names."""
        execution: str = request.path_params["id"]
        after = _position(request.headers.get(LAST_EVENT_ID))
        await self._verbs.execution(execution)  # an unknown one is refused before the stream begins
        return EventStream(self._verbs, self._waiting, execution=execution, after=after, heartbeat=self._heartbeat)


def _position(value: str | None) -> int:
    if not value:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 16):
        raise RequestError(f"the {LAST_EVENT_ID} header must be the id of an event, not {value[:100]!r}")
    return int(value)


def event(view: FactView) -> bytes:
    """One fact as an event."""
    fact = bytes(view.fact)
    return b"id: %d\nevent: %s\nepoch: %d\ndata: %s\n\n" % (
        view.seq,
        _tag.decode(fact).type.encode(),
        view.epoch,
        fact.replace(b"\r", b"").replace(b"\n", b"\ndata: "),  # between tokens JSON may break lines
    )


class EventStream:
    """The response: an ASGI application that writes events until the execution, reader or server ends."""

    def __init__(self, verbs: Verbs, waiting: Waiting, *, execution: str, after: int, heartbeat: float) -> None:
        self._verbs = verbs
        self._waiting = waiting
        self._execution = execution
        self._after = after
        self._heartbeat = heartbeat
        self._ahead = _Ahead()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Write the stream. Ends without `event: end` when it is cut by an error or by the server's stop."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        writer = asyncio.create_task(self._write(send))
        reader = asyncio.create_task(self._take())
        gone = asyncio.create_task(_disconnected(receive))
        tasks = (writer, reader, gone)
        scope = self._waiting.open()
        try:
            with contextlib.suppress(TimeoutError):  # the server stops: the reader comes back with Last-Event-ID
                async with scope:
                    await asyncio.wait((writer, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.close(scope)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take(self) -> None:
        put = self._ahead.put
        try:
            async for view in self._verbs.events(self._execution, after=self._after):
                await put(event(view))
            ended = await self._verbs.execution(self._execution)
            if ended.status in TERMINAL:
                await put(b"event: end\ndata: %s\n\n" % msgspec.json.encode(ended))
        except Exception:
            _log.exception("event_stream_cut", execution=self._execution)
        self._ahead.end()

    async def _write(self, send: Send) -> None:
        while True:
            try:
                async with asyncio.timeout(self._heartbeat):
                    body = await self._ahead.take()
            except TimeoutError:
                body = b": still here\n\n"
            if not body:
                return
            await send({"type": "http.response.body", "body": body, "more_body": True})


class _Ahead:
    """Events between the task that takes them from the verbs and the one that writes them."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._size = 0
        self._ended = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, event: bytes) -> None:
        """Add an event once there is room for it. An empty buffer has room for any."""
        while self._events and (len(self._events) >= _AHEAD or self._size + len(event) > _AHEAD_BYTES):
            self._emptied.clear()
            await self._emptied.wait()
        self._events.append(event)
        self._size += len(event)
        self._filled.set()

    def end(self) -> None:
        """No event comes after those that were put."""
        self._ended = True
        self._filled.set()

    async def take(self) -> bytes:
        """All events there are, once there is one; nothing when the last one was taken."""
        await self._filled.wait()
        taken = b"".join(self._events)
        self._events.clear()
        self._size = 0
        if not self._ended:
            self._filled.clear()
        self._emptied.set()
        return taken


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
