"""One world: machines, a disk, a network, people, and somebody who breaks things, all drawn from one seed.

`World(seed).run()` lives through it and judges it. Its story is every line that was told; `digest` is that of all of
them: the same seed gives the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final

from simulation import boundary, engines, oracle, undisturbed, workflows
from simulation.adversary import Adversary
from simulation.clients import Client, Started, random_operation
from simulation.disk import Disk, SharedStore, SimulatedStore
from simulation.leading import Leading
from simulation.leases import LeaseService, SimulatedCluster
from simulation.loop import SimulatedLoop, Stuck
from simulation.machines import ConnectionLost, EngineMachine, OrchestratorMachine
from simulation.network import End, Network, SimulatedTransport
from simulation.oracle import Violation

from dagengine.events import facts
from dagengine.executors.base import Job
from dagengine.graph.compiled import Graph, compile_document
from dagengine.spec.model import Document
from orchestrator import options
from orchestrator.errors import OrchestratorError

__all__ = ["World"]

_PEACE: Final = 900.0
"""Virtual seconds after the last fault within which everything must have ended."""

_FAULTS: Final = frozenset(
    ["task_died", "answer_failed", "session_failed", "execution_cannot_end", "execution_broke", "start_failed"]
)
"""Log lines that tell of a fault of the product."""


class World:
    """Everything that happens for one seed. With `keep`, `lines` are kept; `ways` replace the faults that are drawn."""

    def __init__(self, seed: int, *, keep: bool = False, ways: Sequence[str] = ()) -> None:
        self.seed = seed
        self.chance = chance = random.Random(seed)
        self.lines: list[str] = []
        self._keep = keep
        self._ways = ways
        self._digest = hashlib.blake2b(digest_size=16)
        self._faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.loop = SimulatedLoop(chance)
        self.loop.set_exception_handler(self._unhandled)
        self.disk = Disk(self.loop, chance, self._committed)
        self.disk.on_deadly = lambda process: self._machine_of(process.name).kill(process)
        self.oracle = oracle.Oracle(self.disk.driver, lambda: self.loop.now, self._excused)
        self.graphs: dict[str, Graph] = {}
        self.leading = Leading(self.disk.driver, self.graphs)
        self.network = Network(self.loop, chance, self._sent)
        self.leases = LeaseService(self.loop, chance, lambda what: self.tell("lease", what))
        self.pace = chance.choice([0.1, 1.0, 3.0, 8.0])
        self.prompt = chance.random() < 0.3
        """Whether people answer at once."""
        self.lost_after = chance.choice([3.0, 10.0])
        self.options: dict[str, Any] = {"replica_lease": chance.choice([2.0, 6.0])}
        self.elects = chance.random() < 0.4
        """Whether the leader is elected through a Lease."""
        if self.elects:
            self.options["kubernetes"] = options.Kubernetes(discovery=None, lease="leader", workflows=False)
        pools = [workflows.FIRST, *["rest"] * chance.choice([0, 1, 1, 2])]
        self.engines = [EngineMachine(self, f"engine-{at}", pool=pool) for at, pool in enumerate(pools)]
        addresses = [engine.address for engine in self.engines]
        replicas = chance.choice([1, 2, 2, 3] if self.elects else [1, 1, 2, 3])
        self.orchestrators = [OrchestratorMachine(self, f"orchestrator-{at}", addresses) for at in range(replicas)]
        self.client = Client(self)
        self.started: list[Started] = []
        self._steady: set[str] = set()

    @property
    def digest(self) -> str:
        """Of all that was told."""
        return self._digest.hexdigest()

    # --- telling ---

    def tell(self, who: str, what: str) -> None:
        """Add a line to the story."""
        if self.loop.ending:
            return
        line = f"{self.loop.now:12.6f} {who:15} {what}"
        self._digest.update(line.encode())
        if self._keep:
            self.lines.append(line)

    def fault(self, what: str) -> None:
        """Something is wrong: the world ends soon."""
        self._faults.append(what)
        self.tell("FAULT", what)

    def logged(self, level: str, event: str, members: Mapping[str, object]) -> None:
        """The product has logged something."""
        name = self.loop.current().name
        told = ", ".join(f"{key}={value!r}" for key, value in sorted(members.items()) if key != "exc_info")
        error = members.get("exc_info")
        self.tell(name, f"[{level}] {event} {told}")
        if self.loop.ending:
            return
        if event == "leader_now":
            with self._fatal():
                self.leading.acts(self.loop.current(), int(str(members["term"])))
        if event in _FAULTS or (isinstance(error, BaseException) and not isinstance(error, OrchestratorError)):
            story = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
            self.fault(f"{name} logged {event} ({told}) {story}")

    def _unhandled(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OrchestratorError):  # what a caller was to be told who has hung up
            return
        story = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
        self.fault(f"unhandled: {context.get('message')} {story}")

    def _sent(self, end: End, data: bytes) -> None:
        self.counts["messages"] += 1
        self.tell(end.process.name, f"sends {len(data)} bytes {hashlib.blake2b(data, digest_size=4).hexdigest()}")

    def _committed(self) -> None:
        self.counts["commits"] += 1
        with self._fatal():
            self.leading.committed()
            for execution, seq, epoch, fact in self.oracle.committed():
                self.counts["facts"] += 1
                self.tell("store", f"{execution[-4:]} {epoch}/{seq} {facts.encode(fact).decode()}")
                if self.prompt and isinstance(fact, facts.NodeWaiting):
                    self.loop.later(self.chance.expovariate(100), self._react, execution)

    def _react(self, execution: str) -> None:
        """Somebody answers right when an execution begins to wait: while others are about to put it aside."""
        for wanted in self.started:
            if wanted.id == execution and not self.loop.ending:
                self.loop.world.spawn(self._guarded(self._help(wanted)))

    # --- boundary.World ---

    def store(self) -> object:
        kind = SimulatedStore if len(self.orchestrators) == 1 else SharedStore
        return kind(self.disk, self.loop.current())

    def transport(self, identity: Any) -> object:
        return SimulatedTransport(identity, self.network, self.loop.current())

    def cluster(self) -> object:
        return SimulatedCluster(self.leases, self.loop.current())

    def steady(self) -> object:
        return self._machine_of(self.loop.current().name).clock

    # --- engines.Witness ---

    def pure_begins(self, engine: engines.Engine, job: Job) -> None:
        self._may_run(engine.name, job)
        self.tell(engine.name, f"runs {job.scope.execution[-4:]} {job.node} {job.index} {job.attempt}")

    def effect_begins(self, engine: engines.Engine, job: Job) -> str:
        self.counts["effects"] += 1
        self._may_run(engine.name, job)
        self.tell(engine.name, f"begins {job.key} attempt {job.attempt}")
        with self._fatal():
            spec = self.graphs[job.scope.workflow].document.spec
            lasting = {node.id for node in (*spec.nodes, *spec.on_exit) if node.on_partition == "continue"}
            return self.oracle.effect_begins(job, engine.name, lasting=job.node in lasting)
        return ""

    def effect_ends(self, engine: engines.Engine, job: Job) -> None:
        self.oracle.effect_ends(job)
        self.tell(engine.name, f"has ended {job.key} attempt {job.attempt}")

    def _may_run(self, name: str, job: Job) -> None:
        """It is one of the engines that its workflow asks for, and has nothing else if that is what it asks for."""
        machine = self._machine_of(name)
        assert isinstance(machine, EngineMachine)
        asked = self.graphs[job.scope.workflow].document.spec.engine
        if asked.pool not in (None, machine.pool):
            self.fault(f"{job.scope.execution} asks for the pool {asked.pool}, and runs on {name}")
        if machine.host is None:
            return
        active = [held.execution for held in machine.host._held if held.active]
        workflows_of = {execution: self.graphs[self.oracle.workflow(execution)].document for execution in active}
        alone = [execution for execution, document in workflows_of.items() if document.spec.engine.exclusive]
        self.counts["alone"] += bool(alone)
        if alone and len(active) > 1:
            self.fault(f"{alone[0]} is to run alone, and {name} runs {active}")

    def shown(self, execution: str, seq: int, payload: bytes) -> None:
        """Somebody was shown a fact: it must be committed."""
        journal = self.oracle.journals[execution].facts
        if len(journal) < seq or facts.encode(journal[seq - 1]) != payload:
            raise Violation(f"fact {seq} of {execution} was shown, and is not committed: {payload!r}")

    @contextlib.contextmanager
    def _fatal(self) -> Iterator[None]:
        """What is noticed inside the product's own calls must not be caught by it."""
        try:
            yield
        except Violation as violation:
            self.fault(str(violation))

    def _excused(self, engine: str) -> bool:
        machine = self._machine_of(engine)
        return machine.stopped_at > -1e9

    def _machine_of(self, name: str) -> EngineMachine | OrchestratorMachine:
        return next(machine for machine in (*self.engines, *self.orchestrators) if machine.name == name)

    # --- life ---

    def run(self) -> None:
        """Live, and judge. Raises Violation."""
        gc.disable()
        boundary.enter(self)
        asyncio.set_event_loop(self.loop)
        try:
            main = self.loop.world.spawn(self._live())
            try:
                self.loop.run_until_complete(main)
            except Stuck as stuck:
                raise Violation(f"stuck: {stuck}") from stuck
            if self._faults:
                raise Violation(self._faults[0])
            self._judge()
        finally:
            self.loop.end()
            asyncio.set_event_loop(None)
            boundary.enter(None)
            self.disk.close()
            gc.enable()

    async def _live(self) -> None:
        expected = await self._plan()
        self.expected = expected
        for machine in (*self.engines, *self.orchestrators):
            machine.switch_on()
        await self._register()
        until = self.chance.choice([10.0, 30.0, 60.0])
        adversary = Adversary(self, until, self._ways)
        ways = [way.__name__ for way in adversary.ways]
        self.tell(
            "world", f"{len(self.engines)} engines, {len(self.orchestrators)} orchestrators, {ways} until {until}"
        )
        async with asyncio.TaskGroup() as people:
            for wanted in self.started:
                at = self.chance.uniform(0, until * 0.7)
                people.create_task(self._guarded(self.client.start(wanted, at)))
            meddling = people.create_task(self._guarded(self._meddle(until)))
            await adversary.run()
            await asyncio.wait([meddling])
            await self._finish(until)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Violation as violation:
            self.fault(str(violation))

    async def _plan(self) -> dict[str, tuple[str, Any]]:
        """Draw workflows and executions; how those end that nothing disturbs."""
        chance = self.chance
        expected: dict[str, tuple[str, Any]] = {}
        self.documents = []
        for at in range(chance.choice([1, 1, 2])):
            hasty = chance.random() < 0.3
            plain = workflows.make(f"w{at}", chance, hasty=hasty)
            document = Document.model_validate(plain)
            self.documents.append(document)
            self.graphs[document.id] = compile_document(document)
            if not hasty:
                self._steady.add(document.id)
        for at in range(chance.choice([1, 3, 5, 8])):
            document = chance.choice(self.documents)
            inputs = {"x": chance.randrange(6), "name": chance.choice(workflows.SIGNALS)}
            wanted = Started(f"key-{at}", document.id, inputs)
            self.started.append(wanted)
            if document.id in self._steady:
                expected[wanted.key] = await undisturbed.outcome(self, wanted)
        return expected

    async def _register(self) -> None:
        for document in self.documents:
            while not self._faults and self.loop.now < _PEACE:
                try:
                    await self.orchestrators[0].call(lambda it, document=document: it.apply(document))  # type: ignore[misc]  # bound at once
                except ConnectionLost:
                    await asyncio.sleep(0.5)
                else:
                    break

    async def _meddle(self, until: float) -> None:
        """Watch some executions, and ask for this and that."""
        chance = self.chance
        eager = chance.choice([0.0, 0.0, 0.2, 1.0])
        helpful = chance.choice([0.0, 0.5])
        pause = chance.choice([0.1, 1.0])
        watching: dict[str, asyncio.Task[None]] = {}
        while self.loop.now < until:
            await asyncio.sleep(chance.expovariate(1 / pause))
            known = [wanted for wanted in self.started if wanted.id]
            if not known:
                continue
            wanted = chance.choice(known)
            if wanted.id not in watching and chance.random() < 0.3:
                watching[wanted.id] = self.loop.world.spawn(self._guarded(self.client.watch(wanted.id)))
            if chance.random() < helpful and not self._has_ended(wanted.id):
                await self._help(wanted)
            if chance.random() < eager * pause:
                wanted.disturbed = True
                await self.client.operate(wanted.id, random_operation(self.graphs[wanted.workflow], chance))
        self._watching = list(watching.values())

    async def _finish(self, until: float) -> None:
        """In peace now: do what executions wait for, until all have ended."""
        deadline = max(until, self.loop.now) + _PEACE
        while True:
            await asyncio.sleep(2.0)
            if self._faults:
                return
            for machine in (*self.engines, *self.orchestrators):
                machine.switch_on()
            open_ones = [wanted for wanted in self.started if not wanted.id or not self._has_ended(wanted.id)]
            if not open_ones and all(task.done() for task in self._watching):
                break
            if self.loop.now > deadline:
                watched = sum(not task.done() for task in self._watching)
                self.fault(f"these have not ended: {open_ones}, and {watched} who watch are not told of the end")
                return
            for wanted in open_ones:
                if wanted.id:
                    await self._help(wanted)
        for _ in range(20):  # those that are told to stop take their time
            await asyncio.sleep(2.0)
            for machine in (*self.engines, *self.orchestrators):
                machine.switch_on()

    async def _help(self, wanted: Started) -> None:
        graph = self.graphs[wanted.workflow]
        journal = self.oracle.journals[wanted.id].facts
        state = oracle.state_of(graph, journal, wanted.id)
        if state is None or self.client.waits_for(wanted.id):
            return  # what was asked for, and acknowledged, has to be enough
        for operation in undisturbed.wishes(graph, state):
            await self.client.operate(wanted.id, operation)

    def _has_ended(self, execution: str) -> bool:
        row = self.disk.driver.execute("SELECT status FROM executions WHERE id = ?", (execution,)).fetchone()
        return row is not None and row[0] in ("succeeded", "failed", "cancelled")

    # --- judgement ---

    def _judge(self) -> None:
        records = self.oracle.records()
        for wanted in self.started:
            record = records.get(wanted.id)
            if record is None:
                raise Violation(f"{wanted} was acknowledged, and is not in the store")
            graph = self.graphs[wanted.workflow]
            self.oracle.judge(wanted.id, record, graph)
            self._judge_outcome(wanted)
        if len(records) != len(self.started):
            raise Violation(f"{len(self.started)} executions were wanted, {len(records)} are in the store")
        for asked in self.client.asked:
            if self.oracle.unanswered(asked.command, asked.execution, asked.position):
                raise Violation(f"{asked} was acknowledged, and nothing came of it")
        for execution, seen in self.client.watched.items():
            journal = self.oracle.journals[execution].facts
            if [payload for _, payload in seen] != [facts.encode(fact) for fact in journal[: len(seen)]]:
                raise Violation(f"who watched {execution} saw something else than its journal")
        for machine in (*self.engines, *self.orchestrators):
            machine.judge()
        leaders = [machine.name for machine in self.orchestrators if machine.leads]
        if len(leaders) != 1:
            raise Violation(f"{leaders} lead")

    def _judge_outcome(self, wanted: Started) -> None:
        outcome = oracle.outcome_of(self.oracle.journals[wanted.id])
        self.counts[outcome[0]] += 1
        if outcome[0] == "failed" and outcome[1][1]:
            self.counts["given up"] += 1
            dispatches = len(set(self.oracle.journals[wanted.id].epochs))
            if outcome[1][0] != "Quarantined":
                raise Violation(f"{wanted} was given up after {dispatches} epochs: {outcome}")
            return
        if wanted.key in self.expected and not wanted.disturbed and outcome != self.expected[wanted.key]:
            raise Violation(f"{wanted} ended as {outcome}, undisturbed it is {self.expected[wanted.key]}")
