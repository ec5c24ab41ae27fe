"""Where scenarios play: executions on machines, with the real evaluator, Lua, gates, caches, and a clock of our own.

Nothing waits: time stands still until a scenario says `wait`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import scenario_operations
import scenario_words as words
from scenario_play import Play
from scenario_script import Script

from dagengine.admission import concurrency, declaration, pools
from dagengine.driver.gate import Granted, Request, Ticket
from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import RememberedResults
from dagengine.errors import InputError
from dagengine.events.facts import ErrorInfo
from dagengine.events.logs import LogLine
from dagengine.executors.base import Question, Scope
from dagengine.executors.lua.check import check as check_lua
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.executors.lua.performer import Performer
from dagengine.graph import Graph, compile_document
from dagengine.machine import why
from dagengine.machine.operations import Cancel, Operation, Signal
from dagengine.spec import document
from dagengine.spec.duration import parse_duration
from dagengine.spec.inputs import check_inputs, check_payload
from dagengine.testing import VirtualClock

__all__ = ["Stage", "graph_of", "settle"]

_MEMORY = 64 << 20
_BEGIN = re.compile(
    r"begin(?: as (?P<name>\w+))?(?: of (?P<workflow>\w+))?(?: on (?P<engine>\w+))?"
    r"(?: with priority (?P<priority>-?\d+))?(?: (?P<inputs>\{.*\}))?"
)
_END = re.compile(
    r"(?P<node>[\w-]+)(?:\[(?P<index>\d+)\])?(?:#(?P<attempt>\d+))? (?P<how>runs|succeeds|fails|breaks)"
    r"(?: asking for (?P<rest>\w+))?(?: (?P<said>.+))?"
)


def graph_of(name: str, spec: dict[str, Any]) -> Graph:
    """A workflow of a scenario, checked like any other."""
    plain = {"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": {"id": name or "w", "version": "1.0.0"}}
    return compile_document(document.from_dict({**plain, "spec": spec}, checks=[check_lua]))


async def settle() -> None:
    """Let everything happen that happens without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


class SharedPools:
    """Pools over the whole system, as engines see them; `dagengine.driver.gate.SharedPools`."""

    def __init__(self, declared: dict[str, declaration.Declared], clock: VirtualClock) -> None:
        self._pools = {name: one.pool(name) for name, one in declared.items()}
        self._clock = clock
        self._granted: dict[Ticket, tuple[str, Granted]] = {}

    def knows(self, pool: str) -> bool:
        return pool in self._pools

    def ask(self, request: Request, granted: Granted) -> None:
        self._granted[request.ticket] = (request.pool, granted)
        at, pool = self._clock.now(), self._pools[request.pool]
        asked = pools.Asked(at=at, ticket=request.ticket, weight=request.weight, priority=request.priority)
        self._grant(pool.handle(asked))

    def give_back(self, ticket: Ticket) -> None:
        name, _ = self._granted.pop(ticket)
        for kind in (pools.Withdrawn, pools.Released):
            self._grant(self._pools[name].handle(kind(at=self._clock.now(), tickets=(ticket,))))

    def _grant(self, tickets: list[Any]) -> None:
        for ticket in tickets:
            asyncio.get_running_loop().call_soon(self._granted[ticket][1])


class Stage:
    """`perform(line)` does what a line says; what came of it, in words."""

    def __init__(self, script: Script) -> None:
        self.clock = VirtualClock()
        self.graphs = {name: graph_of(name, spec) for name, spec in script.workflows.items()}
        self.evaluator = LuaEvaluator()
        self.results = RememberedResults(self.clock)
        self.plays: dict[str, Play] = {}
        self._pools = declaration.parse(script.setting.get("pools", ""))
        self._shared = SharedPools(declaration.parse(script.setting.get("shared pools", "")), self.clock)
        self._engines: dict[str, LocalGate] = {}
        self._performer = Performer(log=self._log, clock=self.clock, max_memory=_MEMORY, max_output=_MEMORY)
        self._limits = concurrency.Concurrency()
        self._lines: list[str] = []
        self._commands = 0
        self._last: tuple[Play, Operation, str] | None = None

    @property
    def now(self) -> int:
        return self.clock.now()

    async def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        await settle()

    async def perform(self, line: str) -> list[str]:
        self._lines = []
        play, words_ = self._play(line)
        if not (await self._in_general(words_) or self._by_people(play, words_) or self._ends(play, words_)):
            raise ValueError(f"nobody knows how to do this: {line}")
        await settle()
        return self._lines or [words.line(self.now, "nothing happens")]

    def say(self, name: str, what: str) -> None:
        """What happened, at this time, in the execution `name`."""
        self._lines.append(words.line(self.now, f"{name}: {what}" if name else what))

    def ended(self, play: Play) -> None:
        """An execution has ended: others may begin in its place."""
        self._follow(self._limits.handle(concurrency.Ended(play.execution)))

    def _log(self, line: LogLine) -> None:
        name = line.execution if line.execution in self.plays else ""
        unit = words.unit(line.node, line.index)
        self.say(name, f"{unit}: attempt {line.attempt} says ({line.level}): {line.text}")

    def _play(self, line: str) -> tuple[Play | None, str]:
        name, colon, rest = line.partition(": ")
        if colon and name in self.plays:
            return self.plays[name], rest
        return (next(iter(self.plays.values())) if len(self.plays) == 1 else None), line

    # --- what is done ---

    async def _in_general(self, line: str) -> bool:
        verb, _, rest = line.partition(" ")
        if found := _BEGIN.fullmatch(line):
            self._begin(**found.groupdict())
        elif verb == "wait":
            await self._wait(self.now + parse_duration(rest))
        else:
            return False
        return True

    def _begin(
        self, name: str | None, workflow: str | None, engine: str | None, priority: str | None, inputs: str | None
    ) -> None:
        graph = self.graphs[workflow or ""]
        try:
            checked = check_inputs(graph.document, json.loads(inputs or "{}"))
        except InputError as error:
            self.say(name or "", f"refused at the door: {_problems(error)}")
            return
        play = self.plays[name or ""] = Play(
            self,
            graph,
            name=name or "",
            inputs=json.dumps(checked, separators=(",", ":"), ensure_ascii=False).encode(),
            engine=self._engine(engine or ""),
            priority=graph.document.spec.priority if priority is None else int(priority),
        )
        declared = graph.document.spec.concurrency
        if declared is None:
            play.begin()
            return
        key = self.evaluator.evaluate(Question(scope=_scope_of_inputs(play), template=declared.key)).value.decode()
        kind = declared.on_conflict
        wants = concurrency.Wants(
            at=self.now, execution=play.execution, key=key, max=declared.max, on_conflict=kind, priority=play.priority
        )
        self._follow(self._limits.handle(wants))
        if self._limits.waits(play.execution):
            self.say(play.name, f"waits until others of the key {key} have ended")

    def _engine(self, name: str) -> LocalGate:
        if name not in self._engines:
            self._engines[name] = LocalGate(self._pools, self.clock)
            self._engines[name].attach(self._shared)
        return self._engines[name]

    def _follow(self, verdicts: list[concurrency.Verdict]) -> None:
        for verdict in verdicts:
            play = self.plays["" if verdict.execution == "it" else verdict.execution]
            match verdict:
                case concurrency.Proceed():
                    if not play.facts:
                        play.begin()
                case concurrency.Refuse():
                    self.say(play.name, f"refused: {verdict.under_way} of its key are under way or wait")
                case concurrency.Cancel():
                    made = Cancel(author="concurrency", reason=f"replaced by execution {verdict.by}")
                    play.operate(made, f"replaced-{verdict.by}") if play.facts else play.begin(made)

    async def _wait(self, until: int) -> None:
        while True:
            dues = [play.machine.wake_at for play in self.plays.values()] + [self.clock.next_wake]
            due = min((at for at in dues if at is not None), default=None)
            if due is None or due > until:
                break
            self.clock.advance(max(0, due - self.now))
            await settle()
            for play in list(self.plays.values()):
                play.pass_time()
            await settle()
        self.clock.advance(until - self.now)

    def _by_people(self, play: Play | None, line: str) -> bool:
        if play is None:
            return False
        if line == "it is asked again":
            assert self._last is not None, "nobody has asked for anything"
            self._last[0].operate(*self._last[1:])
            return True
        if line.split(" ")[0] == "why":
            self._why(play, line.split(" ")[1:])
            return True
        operation = scenario_operations.parse(line)
        if operation is None:
            return False
        if isinstance(operation, Signal) and not self._fits(play, operation):
            return True
        self._commands += 1
        self._last = (play, operation, f"c-{self._commands}")
        play.operate(operation, f"c-{self._commands}")
        return True

    def _fits(self, play: Play, operation: Signal) -> bool:
        """Whether the payload of a signal is what its nodes take: checked at the door, as inputs are."""
        for node in play.graph.nodes:
            if node.wait is not None and node.wait.signal is not None and node.wait.signal.name == operation.name:
                try:
                    check_payload(node.wait.signal.payload, json.loads(bytes(operation.payload)))
                except InputError as error:
                    self.say(play.name, f"refused at the door: {_problems(error)}")
                    return False
        return True

    def _why(self, play: Play, asked: list[str]) -> None:
        state = play.machine.state
        if asked[:1] == ["items"]:
            found = why.explain_items(state, asked[1])
        else:
            found = why.explain(state, asked[0] if asked else None)
        for one in found:
            self.say(play.name, words.of_why(one))
        if not found:
            self.say(play.name, "all that can run runs")

    def _ends(self, play: Play | None, line: str) -> bool:
        if play is None:
            return False
        crash = re.fullmatch(r"crash(?: after (\d+) facts)?", line)
        if crash is not None:
            play.crash(None if crash[1] is None else int(crash[1]))
            return True
        if line == "everything runs":
            while play.open:
                self._run(play, next(iter(play.open)))
            return True
        found = _END.fullmatch(line)
        if found is None or found["node"] not in play.graph.index:
            return False
        unit = (play.graph.index[found["node"]], -1 if found["index"] is None else int(found["index"]))
        attempt = None if found["attempt"] is None else int(found["attempt"])
        rest = 0 if found["rest"] is None else parse_duration(found["rest"])
        said = found["said"] or ""
        if found["how"] == "runs":
            self._run(play, unit)
        elif found["how"] == "succeeds":
            play.end(unit, attempt, "success", result=json.dumps(json.loads(said or "null")).encode())
        else:
            kind, _, message = said.partition(": ")
            error = ErrorInfo(type=kind or "Failed", message=message or "it did not work")
            conclusion = "fail" if found["how"] == "fails" else "error"
            play.end(unit, attempt, conclusion, error=error, retry_after=rest)
        return True

    def _run(self, play: Play, unit: tuple[int, int]) -> None:
        """Perform the attempt under way for real."""
        outcome = self._performer.perform(play.job(unit))
        play.end(unit, None, outcome.conclusion, result=outcome.result, error=outcome.error)


def _scope_of_inputs(play: Play) -> Scope:
    """What a concurrency key may read: nothing has run yet."""
    of = play.graph.document
    return Scope(
        execution="", workflow=of.id, version=of.version, digest=of.digest, inputs=play.inputs, nodes={}, env={}
    )


def _problems(error: InputError) -> str:
    return "; ".join(f"{problem.path}: {problem.message}" for problem in error.problems)


Maker = Callable[[Script], Stage]
