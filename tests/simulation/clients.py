"""People and programs: they start executions, ask things of them, watch them, and ask again when nobody answers."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from simulation.machines import ConnectionLost, OrchestratorMachine
from simulation.oracle import Violation

from dagengine.graph.compiled import Graph
from dagengine.machine import operations
from orchestrator.errors import Conflict, NotFound, OrchestratorError
from orchestrator.verbs import Receipt

if TYPE_CHECKING:
    from simulation.world import World

    from orchestrator.app import Orchestrator

__all__ = ["Asked", "Client", "Started"]


@dataclass(slots=True)
class Started:
    """An execution that somebody wants. `id` is set once its start is acknowledged."""

    key: str
    workflow: str
    inputs: dict[str, Any]
    id: str = ""
    disturbed: bool = False
    """Whether anything was asked of it that may change its result."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An operation that was acknowledged. It was asked for after `position` facts of the store."""

    execution: str
    command: str
    position: int


class Client:
    """Talks to whichever orchestrator answers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[Asked] = []
        self.watched: dict[str, list[tuple[int, bytes]]] = {}

    async def start(self, wanted: Started, at: float) -> None:
        """Start an execution at some time, and ask until it is acknowledged; sometimes again after that."""
        await asyncio.sleep(at)
        twice = self.world.chance.random() < 0.3
        while True:
            execution = await self._try_to_start(wanted)
            if execution is None:
                await asyncio.sleep(self.world.chance.uniform(0.2, 3.0))
                continue
            if wanted.id and wanted.id != execution:
                raise Violation(f"the key {wanted.key} belongs to {wanted.id}, and to {execution}")
            if not wanted.id:
                self.world.tell("client", f"{wanted.key} is {execution}")
                wanted.id = execution
            if not twice:
                return
            twice = False

    async def _try_to_start(self, wanted: Started) -> str | None:
        def start(orchestrator: Orchestrator) -> Any:
            return orchestrator.start(wanted.workflow, wanted.inputs, idempotency_key=wanted.key)

        try:
            return str((await self._someone().call(start)).id)
        except (ConnectionLost, OrchestratorError) as error:
            if isinstance(error, Conflict):
                raise Violation(f"{wanted.key} was refused: {error}") from error
            return None

    async def operate(self, execution: str, operation: operations.Operation) -> bool:
        """Ask something of an execution; whether it was acknowledged. Asked once: nobody may know what became of it."""

        def operate(orchestrator: Orchestrator) -> Any:
            return orchestrator.operate(execution, operation)

        position = self.world.oracle.position
        try:
            receipt: Receipt = await self._someone().call(operate)
        except (ConnectionLost, OrchestratorError) as error:
            if isinstance(error, NotFound):
                raise Violation(f"{execution} was acknowledged, and is not found: {error}") from error
            return False
        self.world.tell("client", f"{receipt.kind} of {execution} is {receipt.command}")
        self.asked.append(Asked(execution, receipt.command, position))
        return True

    def waits_for(self, execution: str) -> bool:
        """Whether something that was acknowledged has not come to anything yet."""
        oracle = self.world.oracle
        return any(
            oracle.unanswered(asked.command, asked.execution, asked.position)
            for asked in self.asked
            if asked.execution == execution
        )

    async def watch(self, execution: str) -> None:
        """Follow the events of an execution until it has ended, from one orchestrator to the next."""
        seen = self.watched.setdefault(execution, [])
        connection = object()

        async def follow(orchestrator: Orchestrator, mine: object) -> bool:
            async for view in orchestrator.events(execution, after=len(seen)):
                if connection is not mine:
                    return False
                payload = bytes(view.fact)
                self.world.shown(execution, view.seq, payload)
                if view.seq != len(seen) + 1:
                    raise Violation(f"event {view.seq} of {execution} came after {len(seen)}")
                seen.append((view.seq, payload))
            return True

        while True:
            connection = mine = object()
            try:
                if await self._someone().call(partial(follow, mine=mine), patience=60.0):
                    return
            except (ConnectionLost, OrchestratorError):
                await asyncio.sleep(self.world.chance.uniform(0.2, 3.0))

    def _someone(self) -> OrchestratorMachine:
        return self.world.chance.choice(self.world.orchestrators)


def random_operation(graph: Graph, chance: random.Random) -> operations.Operation:
    """Anything that may be asked."""
    node = chance.choice(graph.nodes)
    choices: list[operations.Operation] = [
        operations.Pause(author="ada"),
        operations.Pause(author="ada", node=node.id),
        operations.Unpause(author="ada"),
        operations.Unpause(author="ada", node=node.id),
        operations.Skip(node=node.id),
        operations.Rerun(nodes=(node.id,)),
        operations.Rerun(),
        operations.Cancel(grace=chance.choice([0, 0, 500_000])),
        operations.Cancel(terminate=True),
    ]
    if node.wait is not None and node.wait.approval is not None and node.foreach is None:
        choices.append(operations.Decide(author="bob", node=node.id, approved=chance.random() < 0.8))
    return chance.choice(choices)
