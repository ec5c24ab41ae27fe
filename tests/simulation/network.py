"""A network between processes: late, partitioned, and gone in the middle of anything.

A connection carries messages in order, as TCP does, each serialized. It breaks at any message: what was on its way is
lost, and its two ends learn of it at different times. During a partition messages are stuck; they arrive when it ends,
unless one end has taken the connection for dead before that, as keepalive does. Between connections nothing is in
order.

`SimulatedTransport` makes the product's links (`orchestrator.transport.session.SessionLink`) over it; the other side is
the product's `Host.session`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from simulation.loop import Process, SimulatedLoop

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2
from orchestrator.errors import TransportError
from orchestrator.transport.base import Listener
from orchestrator.transport.session import Identity, SessionLink, Stream

__all__ = ["Broken", "Connection", "End", "Network", "SimulatedTransport"]

_WINDOW: Final = 8
"""Messages of one direction that are on their way, or unread, before their sender has to wait."""

Serve = Callable[["End"], Coroutine[Any, Any, None]]


class Broken(Exception):  # noqa: N818 - it is what has happened
    """The connection is gone."""


class End:
    """One end of a connection."""

    def __init__(self, connection: Connection, process: Process) -> None:
        self.connection = connection
        self.process = process
        self.peer: End = self
        self.broken = ""
        """Why nothing is sent or received here any more."""
        self._unread: deque[bytes] = deque()
        self._on_way: deque[bytes] = deque()
        """Sent from here, and not delivered yet."""
        self._last_arrival = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self.on_break: Callable[[], None] = lambda: None

    async def send(self, data: bytes) -> None:
        """Returns when the next one may be sent. Broken."""
        while not self.broken and len(self._on_way) + len(self.peer._unread) >= _WINDOW:
            await self._changed()
        if self.broken:
            raise Broken(self.broken)
        network = self.connection.network
        network.counted(self, data)
        self._on_way.append(data)
        self._last_arrival = max(self._last_arrival, network.loop.now + network.latency())
        network.loop.later(self._last_arrival - network.loop.now, self._arrive)

    async def receive(self) -> bytes:
        """The next message. Broken."""
        while not self._unread:
            if self.broken:
                raise Broken(self.broken)
            await self._changed()
        data = self._unread.popleft()
        self.peer._wake()
        return data

    def close(self) -> None:
        """Say good-bye: the other end hears of it, if it can."""
        if not self.broken:
            self.break_off("it was closed here")
            self.connection.farewell(self.peer)

    def break_off(self, reason: str) -> None:
        """This end is gone, whatever the other one believes."""
        if not self.broken:
            self.broken = reason
            self._on_way.clear()
            if self.connection.network.chance.random() < 0.5:
                self._unread.clear()
            self._wake()
            self.on_break()

    def _arrive(self) -> None:
        if self.connection.network.is_cut(self.process, self.peer.process):
            return  # stuck: tried again when the partition ends
        if self._on_way and not self.broken:
            data = self._on_way.popleft()
            if not self.peer.broken:
                self.peer._unread.append(data)
                self.peer._wake()

    def flush(self) -> None:
        """A partition is over: what was stuck arrives."""
        for _ in range(len(self._on_way)):
            self._arrive()

    async def _changed(self) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        await woken

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for woken in waiting:
            if not woken.done():
                woken.set_result(None)


class Connection:
    """Two ends."""

    def __init__(self, network: Network, dialler: Process, listener: Process) -> None:
        self.network = network
        self.ends = End(self, dialler), End(self, listener)
        self.ends[0].peer, self.ends[1].peer = self.ends[1], self.ends[0]
        self._forget = [
            process.on_death(lambda end=end: self._died(end))  # type: ignore[misc]  # bound at once
            for end, process in zip(self.ends, (dialler, listener), strict=True)
        ]

    def reset(self) -> None:
        """Both ends learn, each in its time, that it is gone."""
        self.network.connections.pop(self, None)
        for end in self.ends:
            self.network.loop.later(self.network.latency(), end.break_off, "it was reset")

    def farewell(self, end: End) -> None:
        """`end` hears that the other one is gone; through a partition it hears nothing, and finds out later."""
        network = self.network
        network.connections.pop(self, None)
        for forget in self._forget:
            forget()
        if network.is_cut(end.process, end.peer.process) or network.chance.random() < 0.1:
            network.loop.later(network.keepalive(), end.break_off, "nothing was heard of the other side")
        else:
            network.loop.later(network.latency(), end.break_off, "the other side has closed it")

    def _died(self, end: End) -> None:
        """The process at `end` is gone: its kernel says so, or (the machine is gone, too) nobody does."""
        end.broken = "the process has ended"
        self.farewell(end.peer)


class Network:
    """All connections and partitions. `counted(end, data)` is called for each message that is sent."""

    def __init__(self, loop: SimulatedLoop, chance: random.Random, counted: Callable[[End, bytes], None]) -> None:
        self.loop = loop
        self.chance = chance
        self.counted = counted
        self.slowness = 0.002
        """Mean seconds that a message takes."""
        self.connections: dict[Connection, None] = {}
        self._listeners: dict[str, tuple[Process, Serve]] = {}
        self._partitions: dict[tuple[str, str], object] = {}

    def latency(self) -> float:
        """Seconds that one message takes."""
        return self.chance.expovariate(1 / self.slowness)

    def keepalive(self) -> float:
        """Seconds until somebody notices that nothing comes any more."""
        return self.chance.uniform(
            limits.KEEPALIVE_TIMEOUT_SECONDS, limits.KEEPALIVE_SECONDS + limits.KEEPALIVE_TIMEOUT_SECONDS
        )

    # --- partitions ---

    def cut(self, one: str, other: str) -> object:
        """Nothing passes between two machines until `heal`."""
        key = (min(one, other), max(one, other))
        partition = self._partitions[key] = object()
        for connection in list(self.connections):
            self._watch(connection, partition)
        return partition

    def heal(self, one: str, other: str) -> None:
        """What is stuck passes."""
        self._partitions.pop((min(one, other), max(one, other)), None)
        for connection in list(self.connections):
            for end in connection.ends:
                if not self.is_cut(end.process, end.peer.process):
                    end.flush()

    def partition_of(self, one: Process, other: Process) -> object | None:
        """The partition between two machines, if there is one."""
        names = one.name, other.name
        return self._partitions.get((min(names), max(names)))

    def is_cut(self, one: Process, other: Process) -> bool:
        """Whether nothing passes between two machines."""
        return self.partition_of(one, other) is not None

    def _watch(self, connection: Connection, partition: object) -> None:
        for end in connection.ends:
            if self.partition_of(end.process, end.peer.process) is partition:
                self.loop.later(self.keepalive(), self._check_cut, end, partition)

    def _check_cut(self, end: End, partition: object) -> None:
        """Keepalive: an end that has been cut off for so long gives the connection up."""
        if self.partition_of(end.process, end.peer.process) is partition and not end.broken:
            end.break_off("nothing was heard of the other side")
            end.connection.farewell(end.peer)

    def paused(self, process: Process) -> None:
        """A process answers no pings any more: who is connected with it notices after a while."""
        for connection in list(self.connections):
            for end in connection.ends:
                if end.peer.process is process:
                    self.loop.later(self.keepalive(), self._check_paused, end)

    def _check_paused(self, end: End) -> None:
        if end.peer.process.paused and not end.broken:
            end.break_off("nothing was heard of the other side")
            end.connection.farewell(end.peer)

    # --- connections ---

    def listen(self, address: str, process: Process, serve: Serve) -> None:
        """From now on `serve(end)` carries on each connection to `address`, as a task of `process`."""
        self._listeners[address] = process, serve

    def unlisten(self, address: str) -> None:
        """Refuse connections to `address`."""
        self._listeners.pop(address, None)

    async def connect(self, dialler: Process, address: str) -> End:
        """The dialler's end of a new connection. Broken when nobody answers."""
        await asyncio.sleep(self.latency() * 2)
        listener, serve = self._listeners.get(address, (None, None))
        if listener is None or serve is None or not listener.alive:
            raise Broken(f"nobody listens at {address}")
        if self.is_cut(dialler, listener) or listener.paused:
            await asyncio.sleep(self.chance.uniform(1.0, 20.0))
            raise Broken(f"{address} does not answer")
        connection = Connection(self, dialler, listener)
        self.connections[connection] = None
        server = connection.ends[1]
        task = listener.spawn(_serve(serve, server), name=f"serve {dialler.name}")
        server.on_break = lambda: self._end(task)
        return connection.ends[0]

    def _end(self, task: asyncio.Task[None]) -> None:
        """As gRPC does with the handler of a call that is gone."""
        task.cancel()


async def _serve(serve: Serve, end: End) -> None:
    try:
        await serve(end)
    except Broken:
        pass
    finally:
        end.on_break = lambda: None
        end.close()


class SimulatedTransport:
    """A `Transport` of one process."""

    def __init__(self, identity: Identity, network: Network, process: Process) -> None:
        self._identity = identity
        self._network = network
        self._process = process

    def link(self, address: str, listener: Listener) -> SessionLink:
        return _Link(address, listener, self._identity, self._network, self._process)


class _Link(SessionLink):
    def __init__(
        self, address: str, listener: Listener, identity: Identity, network: Network, process: Process
    ) -> None:
        super().__init__(address, listener, identity)
        self._network = network
        self._process = process

    def dial(self) -> AbstractAsyncContextManager[Stream]:
        return self._dial()

    @asynccontextmanager
    async def _dial(self) -> AsyncIterator[Stream]:
        try:
            end = await self._network.connect(self._process, self.address)
        except Broken as error:
            raise TransportError(str(error)) from error
        with contextlib.closing(end):
            yield _Stream(end)


class _Stream:
    def __init__(self, end: End) -> None:
        self._end = end

    async def read(self) -> session_pb2.EngineMessage:
        try:
            return session_pb2.EngineMessage.FromString(await self._end.receive())
        except Broken as error:
            raise TransportError(str(error)) from error

    async def write(self, message: session_pb2.OrchestratorMessage) -> None:
        try:
            await self._end.send(message.SerializeToString(deterministic=True))
        except Broken as error:
            raise TransportError(str(error)) from error
