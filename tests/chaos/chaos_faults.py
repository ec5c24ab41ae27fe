"""The faults of the crash matrix: what is broken, when, and when it comes back. Chosen by a seeded generator."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from chaos_system import LEASE, LOST_AFTER, System
from real_processes import Process

__all__ = ["FAULTS", "Fault", "deck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault. `strike` breaks something, and may bring it back; what is dead after that stays dead until
    everything has ended. Those with `server` take a database server, and with it a second orchestrator. `short`: a
    campaign of a few rounds has it.
    """

    name: str
    strike: Callable[[System, random.Random], Awaitable[None]]
    server: bool = False
    short: bool = False


async def _engine(system: System, rng: random.Random) -> None:
    which = rng.randrange(2)
    await system.kill_engine(which)
    await asyncio.sleep(rng.uniform(0, 0.3))
    await system.start_engine(which)


async def _engine_for_good(system: System, rng: random.Random) -> None:
    await system.kill_engine(rng.randrange(2))


async def _orchestrator(system: System, rng: random.Random) -> None:
    which = rng.randrange(len(system.orchestrators))
    await system.kill_orchestrator(which)
    await asyncio.sleep(rng.uniform(0, 0.3))
    await system.start_orchestrator(which)


async def _orchestrator_for_good(system: System, rng: random.Random) -> None:
    await system.kill_orchestrator(rng.randrange(2))


async def _both(system: System, rng: random.Random) -> None:
    """In either order, a little apart, and back in either order."""
    engine, orchestrator = rng.randrange(2), rng.randrange(len(system.orchestrators))
    kills = [lambda: system.kill_orchestrator(orchestrator), lambda: system.kill_engine(engine)]
    starts = [lambda: system.start_orchestrator(orchestrator), lambda: system.start_engine(engine)]
    rng.shuffle(kills)
    rng.shuffle(starts)
    for step in (*kills, *starts):
        await step()
        await asyncio.sleep(rng.uniform(0, 0.1))


async def _everything(system: System, rng: random.Random) -> None:
    everyone = [*system.engines, *system.orchestrators]
    await asyncio.gather(*(process.kill() for process in everyone))
    await asyncio.sleep(rng.uniform(0, 0.2))
    await system.start_missing()


async def _connections(system: System, rng: random.Random) -> None:
    for _ in range(rng.randint(3, 10)):
        rng.choice(system.lines).cut()
        await asyncio.sleep(rng.uniform(0, 0.1))


async def _partition(system: System, rng: random.Random) -> None:
    """For longer than an engine may stay away: what it had runs elsewhere, and it has to stop."""
    line = rng.choice(system.lines)
    line.down()
    await asyncio.sleep(LOST_AFTER * rng.uniform(1.2, 2.2))
    line.up()


async def _frozen_engine(system: System, rng: random.Random) -> None:
    """It stands still for so long that its work may be given away, and comes back with what it knew."""
    await _freeze(rng.choice(system.engines), LOST_AFTER * rng.uniform(0.2, 2.2))


async def _frozen_orchestrator(system: System, rng: random.Random) -> None:
    """The same with an orchestrator: others may own what it owned."""
    await _freeze(rng.choice(system.orchestrators), LEASE * rng.uniform(0.2, 2.2))


async def _freeze(process: Process, seconds: float) -> None:
    process.freeze()
    await asyncio.sleep(seconds)
    process.thaw()


async def _database(system: System, rng: random.Random) -> None:
    await system.database.kill()
    await asyncio.sleep(rng.uniform(0, 0.3))
    await system.database.start()


async def _database_and_orchestrator(system: System, rng: random.Random) -> None:
    which = rng.randrange(2)
    kills = [system.database.kill, lambda: system.kill_orchestrator(which)]
    rng.shuffle(kills)
    for kill in kills:
        await kill()
    await system.database.start()
    await system.start_orchestrator(which)


FAULTS: Final = (
    Fault(name="engine", strike=_engine, short=True),
    Fault(name="orchestrator", strike=_orchestrator, short=True),
    Fault(name="both", strike=_both, short=True),
    Fault(name="connections", strike=_connections, short=True),
    Fault(name="everything", strike=_everything),
    Fault(name="engine for good", strike=_engine_for_good),
    Fault(name="partition", strike=_partition, short=True),
    Fault(name="frozen engine", strike=_frozen_engine),
    Fault(name="database", strike=_database, server=True, short=True),
    Fault(name="database and orchestrator", strike=_database_and_orchestrator, server=True),
    Fault(name="orchestrator for good", strike=_orchestrator_for_good, server=True, short=True),
    Fault(name="frozen orchestrator", strike=_frozen_orchestrator, server=True),
)


def deck(rng: random.Random, rounds: int | None, *, server: bool) -> list[Fault]:
    """A fault for each round: all that there are in any order, then all again. Without `rounds`, those of `short`."""
    possible = [fault for fault in FAULTS if server or not fault.server]
    if rounds is None:
        possible = [fault for fault in possible if fault.short]
        rounds = len(possible)
    made: list[Fault] = []
    while len(made) < rounds:
        made += rng.sample(possible, len(possible))
    return made[:rounds]
