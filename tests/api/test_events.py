"""Server-sent events, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from dagengine.events import facts
from orchestrator.api import server
from orchestrator.api.events import EventStream
from orchestrator.api.waiting import Waiting
from orchestrator.verbs import FactView

PATH = "/api/v1/executions/x1/events"


def started(node: str, at: int = 0) -> facts.NodeStarted:
    return facts.NodeStarted(at=at, node=node)


class Reader:
    """Reads blocks of a stream one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._blocks = self._split()

    async def _split(self) -> AsyncIterator[dict[str, str]]:
        rest = ""
        async for chunk in self.response.aiter_text():
            *blocks, rest = (rest + chunk).split("\n\n")
            for block in blocks:
                yield dict(line.split(": ", 1) if line[0] != ":" else (":", line[2:]) for line in block.split("\n"))

    async def next(self) -> dict[str, str]:
        return await anext(self._blocks)

    async def rest(self) -> list[dict[str, str]]:
        return [block async for block in self._blocks]


@asynccontextmanager
async def reading(serving: server.Serving, last: str | None = None) -> AsyncIterator[Reader]:
    headers = {} if last is None else {"last-event-id": last}
    async with (
        httpx.AsyncClient(base_url=serving.url, timeout=20) as http,
        http.stream("GET", PATH, headers=headers) as response,
    ):
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        reader = Reader(response)
        assert await reader.next() == {"retry": "1000"}
        yield reader


async def test_facts_arrive_while_they_are_committed_and_the_end_is_told(serving, registered) -> None:
    await registered.start("slow")
    async with reading(serving) as reader:
        for n, node in enumerate(("a", "b"), start=1):
            await registered.record("x1", started(node))
            event = await reader.next()
            assert {name: event[name] for name in ("id", "event", "epoch")} == {
                "id": str(n),
                "event": "NodeStarted",
                "epoch": "1",
            }
            assert msgspec.json.decode(event["data"]) == {"type": "NodeStarted", "at": 0, "node": node}
        await registered.record("x1", facts.ExecutionSucceeded(at=3, outputs=msgspec.Raw(b"{}")))
        await registered.finish("x1")
        last, end = await reader.rest()
    assert last["event"] == "ExecutionSucceeded"
    assert end["event"] == "end"
    assert "id" not in end
    assert msgspec.json.decode(end["data"])["status"] == "succeeded"


async def test_a_stream_goes_on_after_the_last_event_read(serving, registered) -> None:
    await registered.start("slow")
    await registered.record("x1", *(started(f"n{n}") for n in range(1, 6)))
    async with reading(serving) as reader:
        assert [(await reader.next())["id"] for _ in range(2)] == ["1", "2"]
    await registered.record("x1", started("n6"))
    await registered.finish("x1")
    async with reading(serving, last="2") as reader:
        assert [event.get("id") for event in await reader.rest()] == ["3", "4", "5", "6", None]


async def test_an_ended_execution_is_told_whole(serving, registered) -> None:
    await registered.start("greeting")
    await registered.record("x1", *(started(f"n{n}") for n in range(3_000)))
    async with reading(serving) as reader:
        events = await reader.rest()
    assert [event["id"] for event in events[:-1]] == [str(n) for n in range(1, 3_001)]
    assert events[-1]["event"] == "end"


async def test_a_slow_reader_has_few_large_events_waiting_for_it(registered) -> None:
    """What is taken from the verbs ahead of the reader is bounded in bytes, not only in number."""
    taken = 0
    large = msgspec.Raw(b'{"type":"NodeStarted","node":"%s"}' % (b"x" * 300_000))

    async def endless(execution: str, *, after: int = 0) -> AsyncIterator[FactView]:
        nonlocal taken
        while True:
            taken += 1
            yield FactView(seq=taken, epoch=1, fact=large)

    async def send(message: Any) -> None:
        if b"data: " in message.get("body", b""):
            await asyncio.Event().wait()  # the reader takes nothing more

    async def receive() -> Any:
        await asyncio.Event().wait()

    await registered.start("slow")
    registered.events = endless
    stream = EventStream(registered, Waiting(registered), execution="x1", after=0, heartbeat=15)
    running = asyncio.create_task(stream({}, receive, send))
    for _ in range(1_000):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert 4 <= taken <= 8


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "9" * 17])
async def test_a_bad_position_is_refused(http, registered, value: str) -> None:
    await registered.start("greeting")
    response = await http.get(PATH, headers={"last-event-id": value})
    assert response.status_code == 400
    assert "Last-Event-ID" in response.json()["detail"]


async def test_silence_is_filled_with_comments(serve, make_app: Callable[..., FastAPI], registered) -> None:
    await registered.start("slow")
    async with serve(make_app(heartbeat=0.01)) as serving, reading(serving) as reader:
        assert await reader.next() == {":": "still here"}
        await registered.record("x1", started("a"))
        while (event := await reader.next()) == {":": "still here"}:
            pass
        assert event["id"] == "1"


async def test_a_reader_that_leaves_is_forgotten(serving, registered) -> None:
    await registered.start("slow")
    await registered.record("x1", started("a"))
    async with reading(serving) as reader:
        await reader.next()
        assert registered.reading == 1
    async with asyncio.timeout(10):
        await registered.until(lambda: not registered.reading)


async def test_a_stopping_server_ends_streams_without_an_end(serve, make_app, registered) -> None:
    await registered.start("slow")
    await registered.record("x1", started("a"))
    async with serve(make_app(), grace=60) as serving, reading(serving) as reader:
        await reader.next()
        async with asyncio.timeout(10):
            await serving.stop()
        assert await reader.rest() == []
    assert registered.reading == 0


async def test_a_fault_cuts_the_stream_and_is_logged(serving, registered, captured_logs: Any) -> None:
    await registered.start("slow")
    async with reading(serving) as reader:
        registered.journals["x1"].append(None)
        await registered.finish("x1")
        assert await reader.rest() == []
    assert [entry["event"] for entry in captured_logs()] == ["event_stream_cut"]
