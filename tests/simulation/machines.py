"""The computers of the simulation: each has an address, a clock that is a little wrong, and at most one process.

A machine is switched on, killed, stopped in an orderly way, or paused. What its process held in memory is gone with it;
what is on a `Disk` stays.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from simulation import boundary, engines, workflows
from simulation.loop import Clock, Process
from simulation.oracle import Violation

from dagengine.admission import declaration
from dagengine.journal.session import Budget
from dagengine.server.host import Host
from orchestrator.app import Options, Orchestrator
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["ConnectionLost", "EngineMachine", "OrchestratorMachine"]

T = TypeVar("T")


class ConnectionLost(Exception):  # noqa: N818 - it is what has happened
    """The process died while it was asked something, or there is none: nobody knows whether it was done."""


class _Machine(ABC):
    """One computer."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.process: Process | None = None
        self.deaths = 0
        self.stopped_at = -1e9
        """When it was paused last, or went on after that."""
        skew = world.chance.uniform(-5e6, 5e6) if world.chance.random() < 0.5 else 0.0
        rate = 1 + world.chance.choice([0.0, 0.0, -0.0002, 0.0002])
        self.clock = Clock(world.loop, offset=round(skew), rate=rate)
        self.monotonic = Clock(world.loop, rate=rate)

    @property
    def on(self) -> bool:
        """Whether it has a process."""
        return self.process is not None

    def switch_on(self) -> None:
        """Start its process, unless it has one."""
        if self.process is None:
            self.process = self.world.loop.process(self.name)
            self.world.tell(self.name, "starts")
            self.process.run(self._start)

    def kill(self, process: Process | None = None) -> None:
        """As kill -9, or a power cut, does (to one certain process, if given)."""
        if self.process is None or process not in (None, self.process):
            return
        killed, self.process = self.process, None
        self.deaths += 1
        self.world.tell(self.name, "is killed")
        self._gone()
        killed.kill()

    def stop(self) -> None:
        """As SIGTERM does: it ends in an orderly way."""
        if self.process is not None and not self.process.paused:
            self.world.tell(self.name, "is told to stop")
            self.process.spawn(self._stop_and_exit(self.process))

    def pause(self) -> None:
        """As SIGSTOP does."""
        if self.process is not None and not self.process.paused:
            self.world.tell(self.name, "is paused")
            self.stopped_at = self.world.loop.now
            self.process.pause()
            self.world.network.paused(self.process)

    def go_on(self) -> None:
        """As SIGCONT does."""
        if self.process is not None and self.process.paused:
            self.world.tell(self.name, "goes on")
            self.stopped_at = self.world.loop.now
            self.process.go_on()

    async def _stop_and_exit(self, process: Process) -> None:
        await self._stop()
        if self.process is process:
            self.process = None
            self.world.tell(self.name, "has stopped")
            self._gone()
            process.kill()

    @abstractmethod
    def _start(self) -> None:
        """Inside the new process."""

    @abstractmethod
    async def _stop(self) -> None:
        """Inside the process that is to end."""

    @abstractmethod
    def judge(self) -> None:
        """Nothing is under way any more, and it holds on to nothing. Violation."""

    @abstractmethod
    def _gone(self) -> None:
        """The process is no more."""


class EngineMachine(_Machine):
    """Runs a `dag-engine`."""

    def __init__(self, world: World, name: str, *, pool: str) -> None:
        super().__init__(world, name)
        self.address = f"{name}:50051"
        self.pool = pool
        self.capacity = world.chance.choice([1, 2, 4, 10])
        self.buffer = world.chance.choice([64 << 20, 64 << 20, 2_000])
        self.host: Host | None = None
        self.engine: engines.Engine | None = None

    def _start(self) -> None:
        world = self.world
        assert self.process is not None
        self.engine = engine = engines.Engine(
            name=self.name,
            seed=world.seed,
            chance=world.chance,
            clock=self.clock,
            evaluator=boundary.EVALUATOR,
            witness=world,
        )
        engine.pace = world.pace
        self.host = Host(
            engine,
            engine_id=self.name,
            version="1.0.0",
            capacity=self.capacity,
            labels={"pool": self.pool},
            budget=Budget(self.buffer),
            clock=self.monotonic,
        )
        world.network.listen(self.address, self.process, partial(engines.serve, self.host))

    async def _stop(self) -> None:
        assert self.host is not None
        await self.host.drain(self.world.chance.choice([0.0, 2.0, 25.0]))

    def _gone(self) -> None:
        self.world.network.unlisten(self.address)
        self.world.oracle.engine_dies(self.name)
        self.host = self.engine = None

    def judge(self) -> None:
        if self.host is None or self.engine is None:
            raise Violation(f"{self.name} is down, and nobody has killed it")
        if self.host._held.reserved_for:
            raise Violation(f"{self.name} is reserved for {self.host._held.reserved_for}")
        held = [held.execution for held in self.host._held]
        if held or self.host.unacknowledged or self.host._budget.used or not self.engine.idle:
            raise Violation(
                f"{self.name} holds {held}, {self.host.unacknowledged} facts, {self.host._budget.used} bytes, and its "
                f"pools are {self.engine.gate.snapshot()}"
            )


class OrchestratorMachine(_Machine):
    """Runs a `dag-orchestrator`."""

    def __init__(self, world: World, name: str, addresses: list[str]) -> None:
        super().__init__(world, name)
        self._addresses = addresses
        self.orchestrator: Orchestrator | None = None
        """Once it is open."""

    def _start(self) -> None:
        assert self.process is not None
        options = Options(
            name=self.name,
            engine_lost_after=self.world.lost_after,
            pools=declaration.read(workflows.SHARED),
            **self.world.options,
        )
        made = Orchestrator("sqlite://", engines=self._addresses, options=options, clock=self.clock)
        self.process.spawn(self._open(made, self.process), name="open")

    async def _open(self, made: Orchestrator, process: Process) -> None:
        try:
            await made.open()
        except OrchestratorError as error:
            self.world.tell(self.name, f"cannot open: {error}")
            self.kill(process)
            return
        self.orchestrator = made
        await made.broken()
        self.world.fault(f"{self.name} is broken: {made.health()}")

    async def _stop(self) -> None:
        closing, self.orchestrator = self.orchestrator, None
        if closing is not None:
            await closing.close()

    def _gone(self) -> None:
        self.orchestrator = None

    @property
    def leads(self) -> bool:
        """Whether it takes itself for the leader."""
        return self.orchestrator is not None and self.orchestrator._dispatcher.leads

    def judge(self) -> None:
        if self.orchestrator is None:
            raise Violation(f"{self.name} is down, and nobody has killed it")
        reserved = [engine for engine in self.orchestrator._dispatcher.engines() if engine.reserved_for]
        if reserved:
            raise Violation(f"{self.name} takes these for reserved: {reserved}")
        levels = self.orchestrator.monitor.levels()
        if levels.running or levels.queued or any(pool.used for pool in levels.pools):
            raise Violation(f"{self.name} still counts {levels}")

    async def call(self, verb: Callable[[Orchestrator], Awaitable[T]], *, patience: float = 15.0) -> T:
        """Ask the orchestrator something, over a network. ConnectionLost, and what the verb raises.

        Whoever has waited for `patience` seconds gives up, and does not know what becomes of it.
        """
        world = self.world
        await asyncio.sleep(world.network.latency())
        process, orchestrator = self.process, self.orchestrator
        if process is None or orchestrator is None:
            raise ConnectionLost
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def perform() -> None:
            try:
                result = await verb(orchestrator)
            except Exception as error:
                world.loop.later(world.network.latency(), _settle, answer, None, error)
            else:
                world.loop.later(world.network.latency(), _settle, answer, result, None)

        task = process.spawn(perform(), name="call")
        forget = process.on_death(lambda: _settle(answer, None, ConnectionLost()))
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            task.cancel()  # as a server does when the client has gone
            raise ConnectionLost from None
        finally:
            forget()


def _settle(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
