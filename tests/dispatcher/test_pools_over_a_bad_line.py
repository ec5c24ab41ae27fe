"""Real gates of engines and the real pools of an orchestrator, with lines between them that lose whatever they like."""

from __future__ import annotations

import asyncio
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from dagengine.admission.declaration import Declared
from dagengine.driver.gate import Request, Ticket
from dagengine.driver.local_gate import LocalGate
from dagengine.server.gate import SessionGate
from dagengine.testing import VirtualClock
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher.engines import Roster
from orchestrator.dispatcher.pools import Pools

SIZE = 3


class Line:
    """One session: the orchestrator's link and the engine's voice, with what is on its way in both directions."""

    reason = ""

    def __init__(self, engine: str) -> None:
        self.engine_id = self.address = engine
        self.connected = True
        self.down: deque[session_pb2.OrchestratorMessage] = deque()
        self.up: deque[session_pb2.EngineMessage] = deque()
        self.to_say: SessionGate | None = None

    def send(self, message: session_pb2.OrchestratorMessage) -> None:
        if self.connected:
            self.down.append(message)

    async def room(self) -> None: ...

    async def run(self) -> None: ...

    async def close(self) -> None: ...

    def pools(self, source: SessionGate, /) -> None:
        self.to_say = source

    def compose(self) -> None:
        if self.to_say is not None:
            source, self.to_say = self.to_say, None
            message = session_pb2.EngineMessage()
            source.compose(message)
            self.up.append(message)


class Engine:
    def __init__(self, name: str, clock: VirtualClock) -> None:
        self.name = name
        self.clock = clock
        self.starts = 0
        self.start()

    def start(self) -> None:
        """The process starts: nothing is left of what was before."""
        self.starts += 1
        self.line: Line | None = None
        self.running: dict[Ticket, int] = {}
        """With the room that each takes."""
        self.waiting: set[Ticket] = set()
        self.local = LocalGate({}, self.clock)
        self.gate = SessionGate(self.local)
        self.asked = 0


class World:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.engines = [Engine(name, self.clock) for name in ("one", "two")]
        self.term = 0
        self.open()

    def open(self) -> None:
        """An orchestrator starts. Its store says that both engines have executions."""
        self.roster = Roster()
        self.pools = Pools({"db": Declared(SIZE)}, self.clock, self.roster)
        for engine in self.engines:
            self.cut(engine)
        self.term += 1
        assert self.pools.lead(self.term, {engine.name: ["db"] for engine in self.engines}) == ["one", "two"]

    def connect(self, engine: Engine) -> None:
        self.cut(engine)
        line = engine.line = Line(engine.name)
        hello = session_pb2.EngineHello(engine=engine.name, incarnation=str(engine.starts))
        known = self.roster.meet(line, hello)
        assert known is not None
        line.send(session_pb2.OrchestratorMessage(shared_pools=self.pools.begin(known)))

    def cut(self, engine: Engine) -> None:
        line, engine.line = engine.line, None
        if line is not None:
            line.connected = False
            self.pools.away(engine.name)
            engine.gate.left(line)

    def deliver_down(self, engine: Engine) -> None:
        line = engine.line
        if line is not None and line.down:
            message = line.down.popleft()
            if message.HasField("shared_pools"):
                shared = message.shared_pools
                engine.gate.announce(line, shared.names, term=shared.term, incarnation="store")
            for grant in message.pool_grants:
                engine.gate.grant(line, grant.tickets)
        self.check()

    def deliver_up(self, engine: Engine) -> None:
        line = engine.line
        if line is not None:
            line.compose()
            if line.up:
                self.pools.received(self.roster.engines[engine.name], line.up.popleft())

    def ask(self, engine: Engine, weight: int) -> None:
        engine.asked += 1
        ticket = Ticket(engine.name, 0, engine.asked, engine.starts)
        engine.waiting.add(ticket)

        def granted() -> None:
            engine.waiting.remove(ticket)
            engine.running[ticket] = min(weight, SIZE)

        engine.local.ask(Request(ticket=ticket, pool="db", weight=weight), granted, lambda *_: None)

    def end(self, engine: Engine) -> None:
        if engine.running:
            engine.local.release(engine.running.popitem()[0])

    def give_up(self, engine: Engine) -> None:
        if engine.waiting:
            engine.local.withdraw(engine.waiting.pop())

    def restart(self, engine: Engine) -> None:
        self.cut(engine)
        engine.local.close()
        engine.start()

    def check(self) -> None:
        assert sum(room for engine in self.engines for room in engine.running.values()) <= SIZE

    def settle(self) -> None:
        """All lines are mended, and attempts end: everybody gets a turn."""
        for engine in self.engines:
            self.connect(engine)
        for _ in range(400):
            for engine in self.engines:
                self.deliver_down(engine)
                self.deliver_up(engine)
            for engine in self.engines:
                self.end(engine)
        assert not any(engine.waiting or engine.running for engine in self.engines)
        assert self.pools.views()[0].used == 0
        assert self.pools.views()[0].waiting == 0

    def close(self) -> None:
        for engine in self.engines:
            engine.local.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "down", "down", "up", "up", "end", "give up", "connect", "cut", "restart", "reopen"]
        ),
        st.integers(0, 1),
        st.integers(1, 5),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_whatever_is_lost_no_more_is_taken_than_there_is_and_nobody_is_forgotten(
    steps: list[tuple[str, int, int]],
) -> None:
    async def play() -> None:
        world = World()
        for action, which, weight in steps:
            engine = world.engines[which]
            match action:
                case "ask":
                    world.ask(engine, weight)
                case "down":
                    world.deliver_down(engine)
                case "up":
                    world.deliver_up(engine)
                case "end":
                    world.end(engine)
                case "give up":
                    world.give_up(engine)
                case "connect":
                    world.connect(engine)
                case "cut":
                    world.cut(engine)
                case "restart":
                    world.restart(engine)
                case "reopen":
                    world.open()
            world.check()
        world.settle()
        world.close()

    asyncio.run(play())
