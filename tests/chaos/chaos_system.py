"""A system to be broken: orchestrators over a database, and two engines behind lines.

Everything that is killed comes back at the address where it was.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Final

from chaos_databases import Database
from chaos_work import EFFECTS, POOL
from real_processes import Line, Process, Site

from orchestrator.client import Client

__all__ = ["LEASE", "LOST_AFTER", "System"]

ENGINES: Final = ("engine-1", "engine-2")
REPLICAS: Final = ("left", "right")
LEASE: Final = 1.0
"""Seconds after which what an orchestrator owned is owned by the other one."""
LOST_AFTER: Final = 1.0
"""Seconds after which what an engine had goes to the other one."""


class System:
    """The processes under test, and how to reach them. Over a database server there are two orchestrators."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.site = Site(folder)
        (folder / "effects.py").write_text(EFFECTS)
        self.site.database = database.url
        self.database = database
        self.lines: list[Line] = []
        self.engines: list[Process] = []
        self.orchestrators: list[Process] = []
        self._clients: list[Client] = []
        self._choice = random.Random(0)

    async def open(self) -> None:
        """Start everything."""
        self.engines = list(await asyncio.gather(*(self._engine(name, "0") for name in ENGINES)))
        self.lines = [Line(engine.address) for engine in self.engines]
        for line in self.lines:
            await line.open()
        names = REPLICAS if self.database.server else REPLICAS[:1]
        self.orchestrators = list(await asyncio.gather(*(self._orchestrator(name, "0") for name in names)))
        self._clients = [self.site.client(each) for each in self.orchestrators]

    async def close(self) -> None:
        """End everything."""
        for line in self.lines:
            await line.close()
        await self.site.close()

    async def stop(self) -> None:
        """Let the orchestrators end in good order, so that their database is nobody's."""
        await asyncio.gather(*(orchestrator.end() for orchestrator in self.orchestrators))

    @property
    def client(self) -> Client:
        """A client of an orchestrator, by chance one that lives, as far as there is one."""
        pairs = zip(self._clients, self.orchestrators, strict=True)
        living = [client for client, orchestrator in pairs if orchestrator.process.returncode is None]
        return self._choice.choice(living or self._clients)

    async def kill_engine(self, which: int) -> None:
        await self.engines[which].kill()

    async def start_engine(self, which: int) -> None:
        """A new engine under the same name, where the one before was."""
        self.engines[which] = await self._engine(ENGINES[which], _port(self.engines[which].address))

    async def kill_orchestrator(self, which: int) -> None:
        await self.orchestrators[which].kill()

    async def start_orchestrator(self, which: int) -> None:
        """A new orchestrator, where the one before was."""
        self.orchestrators[which] = await self._orchestrator(REPLICAS[which], _port(self.orchestrators[which].url))

    async def start_missing(self) -> None:
        """Start again whatever is dead."""
        for which, engine in enumerate(self.engines):
            if engine.process.returncode is not None:
                await self.start_engine(which)
        for which, orchestrator in enumerate(self.orchestrators):
            if orchestrator.process.returncode is not None:
                await self.start_orchestrator(which)

    def effects(self) -> str:
        """What the effects have left."""
        return self.site.effects.read_text()

    async def _engine(self, name: str, port: str) -> Process:
        return await self.site.engine(
            name, port=port, CAPACITY="30", ENGINE_SHELL="true", ENGINE_SHELL_ENV="EFFECTS_LOG", LUA_ISOLATION="thread"
        )

    async def _orchestrator(self, name: str, port: str) -> Process:
        times = {"ENGINE_LOST_TIMEOUT": f"{LOST_AFTER:g}", "REPLICA_LEASE": f"{LEASE:g}"}
        lines = [line.address for line in self.lines]
        return await self.site.orchestrator(lines, name=name, port=port, POOLS=POOL, **times)


def _port(address: str) -> str:
    return address.rpartition(":")[2]
