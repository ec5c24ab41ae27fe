"""Who breaks things. Each world has some ways of it, drawn from the seed, for a while; then everything is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from simulation.machines import EngineMachine, OrchestratorMachine

if TYPE_CHECKING:
    from simulation.world import World

__all__ = ["Adversary"]

_Machine = EngineMachine | OrchestratorMachine
_Way = Callable[[], Awaitable[None]]


class Adversary:
    """Breaks what `world` consists of, `until` a time, in `only` these ways (none: in any)."""

    def __init__(self, world: World, until: float, only: Sequence[str] = ()) -> None:
        self._world = world
        self._until = until
        self._chance = world.chance
        ways: list[_Way] = [
            self._kill_engine,
            self._kill_orchestrator,
            self._cut,
            self._reset,
            self._pause,
            self._stop,
            self._fail_commits,
            self._die_in_commit,
            self._slow_disk,
            self._cut_from_store,
            self._slow_network,
        ]
        if world.elects:
            ways += [self._lease_away, self._lease_answers, self._slow_lease, self._forget_lease]
        count = self._chance.choice([0, 1, 2, 3, 4, 6, len(ways)])
        self.ways = self._chance.sample(ways, count)
        if only:
            ways.append(self._lose_answers)  # of its own: the port says that no store does so
            self.ways = [way for way in ways if way.__name__.removeprefix("_") in only]
        self._eagerness = self._chance.choice([1.0, 3.0, 8.0])
        """Mean seconds between two deeds of one way."""

    async def run(self) -> None:
        """Break things; returns when everything is mended."""
        async with asyncio.TaskGroup() as deeds:
            for way in self.ways:
                deeds.create_task(self._repeat(way))
        self._mend()

    async def _repeat(self, way: _Way) -> None:
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / self._eagerness))
            if self._world.loop.now >= self._until:
                return
            await way()

    def _mend(self) -> None:
        world = self._world
        world.tell("adversary", "mends everything")
        world.disk.failing = world.disk.deadly = world.disk.slowness = world.disk.forgetful = 0.0
        world.disk.unreachable.clear()
        world.leases.forgetful = world.leases.slowness = 0.0
        world.leases.away.clear()
        world.network.slowness = 0.002
        for machine in self._machines():
            machine.go_on()
            machine.switch_on()
            for other in self._machines():
                world.network.heal(machine.name, other.name)

    # --- ways ---

    async def _kill_engine(self) -> None:
        await self._kill(self._chance.choice(self._world.engines))

    async def _kill_orchestrator(self) -> None:
        await self._kill(self._chance.choice(self._world.orchestrators))

    async def _kill(self, machine: _Machine) -> None:
        machine.kill()
        await self._rest(8.0)
        machine.switch_on()

    async def _cut(self) -> None:
        engine = self._chance.choice(self._world.engines)
        others = self._world.orchestrators
        if self._chance.random() < 0.3:
            others = [self._chance.choice(others)]
        names = [machine.name for machine in others]
        self._world.tell("adversary", f"cuts {engine.name} off {names}")
        for name in names:
            self._world.network.cut(engine.name, name)
        await self._rest(20.0)
        self._world.tell("adversary", f"connects {engine.name} with {names}")
        for name in names:
            self._world.network.heal(engine.name, name)

    async def _reset(self) -> None:
        connections = list(self._world.network.connections)
        if connections:
            self._world.tell("adversary", "resets a connection")
            self._chance.choice(connections).reset()

    async def _pause(self) -> None:
        machine = self._chance.choice(self._machines())
        process = machine.process
        machine.pause()
        await self._rest(15.0)
        if machine.process is process:
            machine.go_on()

    async def _stop(self) -> None:
        machine = self._chance.choice(self._machines())
        process = machine.process
        machine.stop()
        await self._rest(10.0)
        if machine.process is process and self._chance.random() < 0.3:
            machine.kill(process)
        machine.switch_on()

    async def _fail_commits(self) -> None:
        self._world.disk.failing = self._chance.choice([0.1, 0.5, 1.0])
        await self._rest(3.0)
        self._world.disk.failing = 0.0

    async def _die_in_commit(self) -> None:
        self._world.disk.deadly = self._chance.choice([0.02, 0.2])
        await self._rest(3.0)
        self._world.disk.deadly = 0.0
        await self._rest(3.0)
        for machine in self._world.orchestrators:
            machine.switch_on()

    async def _slow_disk(self) -> None:
        self._world.disk.slowness = self._chance.choice([0.2, 2.0])
        await self._rest(5.0)
        self._world.disk.slowness = 0.0

    async def _cut_from_store(self) -> None:
        machine = self._chance.choice(self._world.orchestrators)
        self._world.tell("adversary", f"cuts {machine.name} off the store")
        self._world.disk.unreachable.add(machine.name)
        await self._rest(6.0)
        self._world.tell("adversary", f"connects {machine.name} with the store")
        self._world.disk.unreachable.discard(machine.name)

    async def _lose_answers(self) -> None:
        if len(self._world.orchestrators) > 1:  # else there is no server between a process and its disk
            self._world.disk.forgetful = self._chance.choice([0.05, 0.3])
            await self._rest(3.0)
            self._world.disk.forgetful = 0.0

    async def _slow_network(self) -> None:
        self._world.network.slowness = self._chance.choice([0.05, 0.5])
        await self._rest(5.0)
        self._world.network.slowness = 0.002

    async def _lease_away(self) -> None:
        """For all of them, as when an API server starts anew, or for one alone."""
        machines = self._world.orchestrators
        if self._chance.random() < 0.5:
            machines = [self._chance.choice(machines)]
        names = [machine.name for machine in machines]
        self._world.tell("adversary", f"cuts {names} off the Lease")
        self._world.leases.away.update(names)
        await self._rest(8.0)
        self._world.tell("adversary", f"connects {names} with the Lease")
        self._world.leases.away.difference_update(names)

    async def _lease_answers(self) -> None:
        self._world.leases.forgetful = self._chance.choice([0.1, 0.5])
        await self._rest(5.0)
        self._world.leases.forgetful = 0.0

    async def _slow_lease(self) -> None:
        self._world.leases.slowness = self._chance.choice([0.3, 3.0])
        await self._rest(5.0)
        self._world.leases.slowness = 0.0

    async def _forget_lease(self) -> None:
        self._world.leases.forget()

    # --- parts ---

    def _machines(self) -> list[_Machine]:
        return [*self._world.engines, *self._world.orchestrators]

    async def _rest(self, mean: float) -> None:
        await asyncio.sleep(self._chance.expovariate(1 / mean))
