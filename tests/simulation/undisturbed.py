"""How an execution ends that nothing disturbs: on an engine that runs alone, and on which nothing ever breaks."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import msgspec
from simulation import boundary, engines, oracle, workflows
from simulation.loop import Clock

from dagengine.graph.compiled import Graph
from dagengine.journal.memory import MemoryJournal
from dagengine.machine import operations

if TYPE_CHECKING:
    from simulation.clients import Started
    from simulation.world import World

__all__ = ["outcome", "wishes"]


async def outcome(world: World, wanted: Started) -> tuple[str, Any]:
    """How it ends, comparable with how others of the same seed do (`oracle.outcome_of`)."""
    engine = engines.Engine(
        name="alone",
        seed=world.seed,
        chance=random.Random(0),
        clock=Clock(world.loop),
        evaluator=boundary.EVALUATOR,
        witness=_Nobody(),
    )
    engine.pace = 0.1
    engine.gate.attach(_Roomy())
    graph = world.graphs[wanted.workflow]
    journal = MemoryJournal(keep=True)
    driver = engine.open(graph, execution="alone", journal=journal, seed=1)
    driver.start(msgspec.json.encode(wanted.inputs))
    ended = asyncio.ensure_future(driver.wait())
    for _ in range(10_000):
        await asyncio.wait([ended], timeout=1.0)
        if ended.done():
            return oracle.outcome_of(oracle.Journal(facts=journal.facts))
        for operation in wishes(graph, driver.state):
            driver.operate(operation)
    raise oracle.Violation(f"{wanted} does not end even when nothing disturbs it")


class _Nobody:
    """Sees nothing."""

    def pure_begins(self, engine: object, job: object) -> None: ...

    def effect_begins(self, engine: object, job: object) -> str:
        return "1"

    def effect_ends(self, engine: object, job: object) -> None: ...


class _Roomy:
    """Pools over the whole system with room for everybody."""

    def knows(self, pool: str) -> bool:
        return pool in workflows.SHARED

    def ask(self, request: object, granted: Any, /) -> None:
        asyncio.get_running_loop().call_soon(granted)

    def give_back(self, ticket: object, /) -> None: ...


def wishes(graph: Graph, state: Any) -> list[operations.Operation]:
    """What people do for an execution that waits for them: the same whenever they do it."""
    wanted: list[operations.Operation] = [
        operations.Unpause(node="" if position < 0 else graph.nodes[position].id) for position in state.paused
    ]
    for (position, index), wait in state.waits.items():
        name = graph.nodes[position].id
        if wait.kind == "signal":
            wanted.append(operations.Signal(name=wait.name, payload=msgspec.Raw(b"1")))
        elif wait.kind == "approval":
            wanted.append(operations.Decide(author="ada", node=name, index=None if index < 0 else index, approved=True))
    return wanted
