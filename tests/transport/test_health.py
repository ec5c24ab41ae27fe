"""Asking an engine how it is, by gRPC's standard health service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from dagengine import DAGEngine
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from orchestrator.errors import TransportError
from orchestrator.transport import health


class Mute(asyncio.Protocol):
    """Takes a connection, and answers nothing."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.asked.set()

    def hang_up(self) -> None:
        assert self._transport is not None
        self._transport.close()


@pytest.fixture
async def server() -> AsyncIterator[EngineServer]:
    server = EngineServer(Host(DAGEngine(), engine_id="engine-1", version="0", capacity=1))
    await server.start()
    yield server
    await server.stop()


async def test_an_engine_that_serves_is_well_and_one_that_does_not_says_so(server: EngineServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        assert await health.check(channel, server.address) == ""
        await server.unready()
        assert await health.check(channel, server.address) == "it says NOT_SERVING"


async def test_an_engine_that_is_gone_does_not_say_how_it_is(server: EngineServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        await server.stop()
        with pytest.raises(TransportError, match="UNAVAILABLE"):
            await health.check(channel, server.address)


async def test_what_has_no_health_service_is_as_well_as_its_session() -> None:
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await health.check(channel, "there") == ""
    await other.stop(None)


async def test_a_session_that_ends_meanwhile_ends_the_question_and_not_whoever_asks() -> None:
    mute = Mute()
    server = await asyncio.get_running_loop().create_server(lambda: mute, "127.0.0.1", 0)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    asking = asyncio.create_task(health.check(channel, "there"))
    await mute.asked.wait()
    await channel.close()
    with pytest.raises(TransportError):
        await asking
    mute.hang_up()
    server.close()
    await server.wait_closed()


async def test_whoever_asks_can_be_cancelled(server: EngineServer) -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        asking = asyncio.create_task(health.check(channel, "there"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
