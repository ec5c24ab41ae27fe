"""Engines of the simulation: the product's driver, gate and host; executors that only pretend to work.

What an attempt does takes virtual time and ends as `workflows` says, so it is the same in every run. Attempts of
effects are told to the `Witness` when they begin: that is when the world outside can see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec
from simulation import workflows
from simulation.network import Broken, End

from dagengine.admission import declaration
from dagengine.clock import Clock
from dagengine.driver.driver import Driver
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import KnownResults, RememberedResults
from dagengine.errors import WireError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import Done, Evaluator, Job, LogSink, Outcome
from dagengine.graph.compiled import Graph
from dagengine.journal.base import Journal
from dagengine.server.host import Host
from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2

__all__ = ["Engine", "Witness", "serve"]


class Witness(Protocol):
    """Sees what happens outside."""

    def pure_begins(self, engine: Engine, job: Job) -> None:
        """An attempt without effects begins."""

    def effect_begins(self, engine: Engine, job: Job) -> str:
        """An effect begins; the answer is new each time, and becomes a part of the result."""

    def effect_ends(self, engine: Engine, job: Job) -> None:
        """It is over, one way or the other."""


class Executor:
    """Performs attempts of one type."""

    def __init__(self, engine: Engine, *, effects: bool) -> None:
        self.runs_ahead = not effects
        self._engine = engine
        self._effects = effects
        self._running: dict[int, tuple[Job, Done, asyncio.Handle]] = {}
        """By a number of their own: an attempt that was dropped may not have ended when it is begun again."""
        self._begun = 0

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        for job in jobs:
            self._begin(job, done)

    def _begin(self, job: Job, done: Done) -> None:
        engine = self._engine
        nonce = engine.witness.effect_begins(engine, job) if self._effects else ""
        if not self._effects:
            engine.witness.pure_begins(engine, job)
        takes = engine.chance.expovariate(1 / engine.pace) if engine.chance.random() < 0.7 else 0.0
        if self._effects and engine.chance.random() < 0.08:
            takes += engine.chance.expovariate(1 / 20.0)  # long enough for others to give the engine up meanwhile
        outcome = None
        if job.timeout is not None and takes * 1e6 > job.timeout:
            takes, outcome = job.timeout / 1e6, _broken("Timeout")
        elif not job.ahead:
            outcome = self._outcome(job, nonce)
        # What runs ahead sees the result of the attempt before it when that is known to the machine.
        self._begun += 1
        handle = asyncio.get_running_loop().call_later(takes, self._end, self._begun, outcome)
        self._running[self._begun] = job, done, handle

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        chance, loop = self._engine.chance, asyncio.get_running_loop()
        for number, (job, done, handle) in self._running.items():
            if (job.scope.execution, job.node, job.index, job.attempt) != (execution, node, index, attempt):
                continue
            if grace and chance.random() < 0.5:
                continue  # it takes no notice
            handle.cancel()
            delay = chance.random() * grace / 1e6
            self._running[number] = job, done, loop.call_later(delay, self._end, number, _broken("Cancelled"))

    async def close(self) -> None:
        for _, _, handle in self._running.values():
            handle.cancel()
        self._running.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing runs."""
        return not self._running

    def _end(self, number: int, outcome: Outcome | None) -> None:
        job, done, _ = self._running.pop(number)
        if self._effects:
            self._engine.witness.effect_ends(self._engine, job)
        made = outcome or self._outcome(job, "")
        follows = job.then is not None and made.conclusion == "success" and self._engine.chance.random() < 0.5
        done(job, msgspec.structs.replace(made, ahead=True) if follows else made)
        if follows and job.then is not None:
            self._begin(job.then, done)

    def _outcome(self, job: Job, nonce: str) -> Outcome:
        match workflows.verdict_of(self._engine.seed, job):
            case "fail":
                error = ErrorInfo(type="Refused", message="the code said no")
                return Outcome(conclusion="fail", error=error, elapsed=1)
            case "error":
                return _broken("Crash")
        return Outcome(conclusion="success", result=workflows.result_of(self._engine.seed, job, nonce), elapsed=1)


def _broken(kind: str) -> Outcome:
    return Outcome(conclusion="error", error=ErrorInfo(type=kind, message="the platform did it"), elapsed=1)


class Engine:
    """A `dagengine.server.base.Engine`. `pace` is the mean number of seconds that an attempt takes."""

    def __init__(
        self, *, name: str, seed: int, chance: random.Random, clock: Clock, evaluator: Evaluator, witness: Witness
    ) -> None:
        self.name = name
        self.seed = seed
        self.chance = chance
        self.witness = witness
        self.pace = 0.3
        self.clock = clock
        self.gate = LocalGate(declaration.read(workflows.POOLS), clock)
        self._evaluator = evaluator
        self._results = RememberedResults(clock)
        self._executors = {"lua": Executor(self, effects=False), "python": Executor(self, effects=True)}

    @property
    def executors(self) -> list[str]:
        return [*self._executors, "wait"]

    def get(self, kind: str) -> Executor | None:
        return self._executors.get(kind)

    def missing(self, document: Document) -> list[str]:
        return self.gate.missing(document.pools)

    def open(
        self,
        graph: Graph,
        *,
        execution: str,
        journal: Journal,
        seed: int,
        log: LogSink | None = None,
        results: KnownResults | None = None,
        priority: int | None = None,
    ) -> Driver:
        return Driver(
            graph,
            execution=execution,
            seed=seed,
            executors=self,
            evaluator=self._evaluator,
            gate=self.gate,
            results=results or self._results,
            journal=journal,
            clock=self.clock,
            priority=priority,
        )

    def release(self, execution: str) -> None: ...

    @property
    def idle(self) -> bool:
        """Whether nothing runs, waits for room or has some."""
        return all(executor.idle for executor in self._executors.values()) and not any(
            pool.used or pool.waiting for pool in self.gate.snapshot()
        )


async def serve(host: Host, end: End) -> None:
    """A session over a connection, as the gRPC service carries it on (`dagengine.server.service`)."""
    try:
        async with contextlib.aclosing(host.session(_messages(end))) as messages:
            async for message in messages:
                await end.send(message.SerializeToString(deterministic=True))
    except (WireError, Broken):
        pass


async def _messages(end: End) -> AsyncIterator[session_pb2.OrchestratorMessage]:
    while True:
        yield session_pb2.OrchestratorMessage.FromString(await end.receive())
