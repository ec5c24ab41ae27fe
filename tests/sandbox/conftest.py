"""What the tests of the sandbox share: the attacks, an arena where they are let loose, and a canary that sings after.

An attack is a section of a file in `attacks/`. Its head says what it tries and how it must end:

    --# a name
    --  Tries: what the attacker hopes for.
    --  Ends: Timeout
    --  Inline: not stopped

`Ends` is one or more types of error with `or` between them (`anything` is any value), or `value` and the JSON that
shows that it was harmless.
`Says: …` is a pattern that the error's message has. `Inline: not stopped` marks what only a process can stop.
`Memory:` and `Timeout:` (MiB, milliseconds) are limits of its own.

A module of tests says `ATTACKS = "name of a file"`; each of its tests with the argument `attack` is run with all
attacks of that file, in each isolation.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.lua import names
from dagengine.executors.lua.inline import InlineLua
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.spec.model import LuaExecutor

MEMORY: Final = 64 << 20
TIMEOUT: Final = 200_000
"""Microseconds that an attack may take."""

MARGIN: Final = 200_000
"""Microseconds after its limit at which an attack must be over."""

TRIES: Final = 5
"""An attack that was late is tried again, and its best time counts. Another process that has the processor makes an
attempt later, and nothing makes it earlier: the best of a few is nearest to what the sandbox itself needs."""

PATIENCE: Final = 20.0
"""Seconds after which a script counts as one that is never stopped."""

ISOLATIONS: Final = ("process", "inline")

_HEAD: Final = re.compile(r"^--# (?P<name>.+)$", re.MULTILINE)
_FIELD: Final = re.compile(r"^--  (?P<name>Tries|Ends|Says|Inline|Memory|Timeout): (?P<value>.+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A script, and how it must end: with an error of one of `ends`, or with `value`, a JSON text."""

    name: str
    code: str
    ends: tuple[str, ...] = ()
    value: bytes | None = None
    anything: bool = False
    """Whether any value will do."""
    says: str = ""
    inline: bool = True
    memory: int | None = None
    timeout: int = TIMEOUT

    def check(self, outcome: base.Outcome) -> str:
        """What is wrong with how it ended; empty when nothing is."""
        if self.value is not None:
            if outcome.error is not None:
                return f"it ended with {outcome.error}, and should have given {self.value!r}"
            if msgspec.json.decode(outcome.result) == msgspec.json.decode(self.value):
                return ""
            return f"it gave {outcome.result!r:.200}, not {self.value!r}"
        if outcome.error is None and self.anything:
            return ""
        if outcome.error is None:
            return f"it gave {outcome.result!r:.200}, and should have ended with {' or '.join(self.ends)}"
        if outcome.error.type not in self.ends:
            return f"it ended with {outcome.error}, not with {' or '.join(self.ends)}"
        if self.says and not re.search(self.says, outcome.error.message):
            return f"its message is {outcome.error.message!r:.300}, without {self.says!r}"
        return ""


def _attack(text: str) -> Attack:
    fields: dict[str, str] = {}
    lines = text.split("\n")
    name = lines[0].removeprefix("--# ")
    for line in lines[1:]:
        field = _FIELD.match(line)
        if field is None:
            break
        fields[field["name"]] = field["value"]
    code = "\n".join(lines[1 + len(fields) :])
    assert "Tries" in fields, f"the attack {name!r} does not say what it tries"
    ends = fields["Ends"]
    value = ends.removeprefix("value ").encode() if ends.startswith("value ") else None
    kinds = ends.split(" or ")
    return Attack(
        name=name,
        code=code,
        ends=() if value is not None else tuple(kinds),
        value=value,
        anything="anything" in kinds,
        says=fields.get("Says", ""),
        inline=fields.get("Inline") != "not stopped",
        memory=int(fields["Memory"]) << 20 if "Memory" in fields else None,
        timeout=int(fields["Timeout"]) * 1_000 if "Timeout" in fields else TIMEOUT,
    )


@functools.cache
def attacks(file: str) -> tuple[Attack, ...]:
    """The attacks of a file, in their order."""
    text = (Path(__file__).parent / "attacks" / f"{file}.lua").read_text(encoding="utf-8")
    starts = [match.start() for match in _HEAD.finditer(text)]
    return tuple(_attack(text[start:stop]) for start, stop in zip(starts, [*starts[1:], len(text)], strict=True))


@functools.cache
def every_attack() -> tuple[Attack, ...]:
    """All attacks of all files."""
    files = sorted((Path(__file__).parent / "attacks").glob("*.lua"))
    return tuple(attack for file in files for attack in attacks(file.stem))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "attack" not in metafunc.fixturenames:
        return
    # Alone: each of them must be over in time, and another test would take that time from it.
    cases = [
        pytest.param(attack, isolation, id=f"{attack.name}-{isolation}", marks=pytest.mark.alone)
        for attack in attacks(metafunc.module.ATTACKS)
        for isolation in ISOLATIONS
        if isolation == "process" or attack.inline
    ]
    metafunc.parametrize(("attack", "isolation"), cases)


@pytest.fixture(scope="session")
def all_attacks() -> tuple[Attack, ...]:
    """All attacks of all files."""
    return every_attack()


def _job(
    code: str, *, timeout: int | None = TIMEOUT, memory: int | None = None, seed: int = 7, **scope: Any
) -> base.Job:
    inputs = {"list": [1, 2, {"a": 3}], "deep": {"er": {"a": 1}}, "text": "text"}
    given = base.Scope(
        execution=scope.get("execution", "e-1"),
        workflow="w",
        version="1.0.0",
        digest="sha256:0",
        inputs=msgspec.json.encode(inputs | scope.get("inputs", {})),
        nodes={"up": msgspec.json.encode({"rows": [{"n": i} for i in range(50)], "name": "up"})},
        env={"A": "b"},
        modules={"shared": "local m = {count = 0} function m.add() m.count = m.count + 1 return m.count end return m"},
    )
    spec = LuaExecutor(code=code, memory=memory)
    return base.Job(position=0, node="n", index=None, attempt=1, spec=spec, scope=given, seed=seed, timeout=timeout)


@pytest.fixture(scope="session")
def attack_of() -> Callable[..., Attack]:
    """Makes an attack: `attack_of(code, ends=("LuaError",))`."""
    return lambda code, **options: Attack(name="", code=code, **options)


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """Makes a job that runs `code`."""
    return _job


# What a script finds, by every means it has. It has to find the same after every attack as in a sandbox that is new.
CANARY: Final = """
local found = {globals = {}, types = {}, members = {}, meta = {}}
for name, value in pairs(_G) do found.globals[name] = type(value) end
for _, name in ipairs(inputs.names) do
  local value = _ENV[name]
  found.types[name] = type(value)
  found.meta[name] = tostring(getmetatable(value))
  if type(value) == "table" then
    local members = {}
    for key, member in pairs(value) do members[#members + 1] = tostring(key) .. " " .. type(member) end
    table.sort(members)
    found.members[name] = members
  end
end
found.methods = {("x"):upper(), ("%d"):format(3), ("ab"):rep(2, "-"), ("x"):len(), getmetatable("")}
found.calls = {
  math.floor(2.5), utf8.char(233), table.concat({1, 2}, ","), select("#", 1, nil), tostring({}), tostring(print),
  json.encode(json.array()), json.encode {a = 1}, os.date("%Y", 0), time.format(0), base64.encode("abc"), sha256("a"),
  (re.match("abc", "b.")), rawequal(json.null, json.null), #json.array {1}, string.format("%5.1f|%s|%q", 2.25, {}, "a"),
}
found.random = {math.random(1000000), math.random(1000000), math.random()}
local ok, why = pcall(function() undefined.x = 1 end)
found.caught = {ok, why}
found.wrapped = {coroutine.wrap(function(a) local b = coroutine.yield(a + 1) return b end)(1)}
found.readonly = {pcall(function() inputs.x = 1 end)}
found.array = getmetatable(json.array {}) == nil
found.module = {require("shared").add(), require("shared").add()}
found.room = #("x"):rep(40 << 20)
found.rows = #nodes.up.rows
local n = 0
for i = 1, 1000 do n = n + i end
found.sum = n
leaked = "by the canary"
return found
"""


class Arena:
    """Both isolations, one worker each, and an event loop of their own: attacks meet in the same sandbox."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._lines: list[base.LogLine] = []
        self._executors: dict[str, InlineLua | LuaProcesses] = {}
        self._expected: bytes | None = None
        self.lines = 0
        """How many lines scripts have logged."""

    def close(self) -> None:
        for executor in self._executors.values():
            self._runner.run(executor.close())
        self._runner.close()

    def perform(self, isolation: str, jobs: Sequence[base.Job]) -> list[base.Outcome]:
        """How jobs ended, one after the other. Fails the test when one of them does not end at all."""
        return self._runner.run(self._perform(isolation, jobs))

    def alone(self, job: base.Job) -> base.Outcome:
        """How a job ends in a sandbox that has seen nothing else."""

        async def once() -> base.Outcome:
            executor = InlineLua(log=self._log, clock=_Noon(), max_memory=MEMORY)
            outcome = await _one(executor, job)
            await executor.close()
            return outcome

        return self._runner.run(once())

    def sings(self, isolation: str) -> str:
        """What a script finds now that it would not find in a new sandbox; empty when nothing has changed."""
        if self._expected is None:
            fresh = self.alone(self._canary())
            assert fresh.error is None, fresh.error
            self._expected = fresh.result
        (outcome,) = self.perform(isolation, [self._canary()])
        if outcome.error is not None:
            return f"the canary died: {outcome.error}"
        if outcome.result == self._expected:
            return ""
        now, before = msgspec.json.decode(outcome.result), msgspec.json.decode(self._expected)
        changed = {name: (before[name], now[name]) for name in before if before[name] != now[name]}
        return f"the canary found something else (before, now): {changed or 'another order'}"

    def _canary(self) -> base.Job:
        return _job(CANARY, timeout=20_000_000, inputs={"names": sorted(names.SCRIPT)})

    async def _perform(self, isolation: str, jobs: Sequence[base.Job]) -> list[base.Outcome]:
        executor = self._executors.get(isolation)
        if executor is None:
            executor = self._executors[isolation] = self._made(isolation)
        outcomes = []
        for job in jobs:
            try:
                async with asyncio.timeout(PATIENCE):
                    outcomes.append(await _one(executor, job))
            except TimeoutError:
                del self._executors[isolation]  # whoever comes next gets a new one
                pytest.fail(f"was never stopped in {isolation!r}: {job.spec!r:.2000}", pytrace=False)
        return outcomes

    def _made(self, isolation: str) -> InlineLua | LuaProcesses:
        if isolation == "process":
            return LuaProcesses(log=self._log, clock=_Noon(), workers=1, max_memory=MEMORY)
        return InlineLua(log=self._log, clock=_Noon(), thread=True, max_memory=MEMORY)

    def _log(self, line: base.LogLine) -> None:
        self.lines += 1


class _Noon(SystemClock):
    """A clock that stands still, so that what scripts see of it can be compared."""

    def now(self) -> int:
        return 1_700_000_000_000_000


async def _one(executor: InlineLua | LuaProcesses, job: base.Job) -> base.Outcome:
    ended: asyncio.Future[base.Outcome] = asyncio.get_running_loop().create_future()

    def done(_job: base.Job, outcome: base.Outcome) -> None:
        if not ended.cancelled():
            ended.set_result(outcome)

    executor.submit([job], done)
    return await ended


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    made = Arena()
    for isolation in ISOLATIONS:  # so that threads and processes are there before the first test
        made.perform(isolation, [_job("return 1")])
    yield made
    made.close()


@pytest.fixture(scope="module")
def endured(arena: Arena) -> Callable[[Attack, str], str]:
    """What is wrong with how an attack ended, how late, or with what it left behind; empty when nothing is."""

    def endure(attack: Attack, isolation: str) -> str:
        allowed = attack.timeout + MARGIN
        taken = []
        for _ in range(TRIES):
            lines = arena.lines
            (outcome,) = arena.perform(isolation, [_job(attack.code, timeout=attack.timeout, memory=attack.memory)])
            problem = attack.check(outcome) or arena.sings(isolation)
            if not problem and arena.lines - lines > 1_001:
                problem = f"it logged {arena.lines - lines} lines"
            if not problem and len(msgspec.json.encode(outcome)) > 5 << 20:
                problem = f"its outcome has {len(msgspec.json.encode(outcome))} bytes"
            if not problem and outcome.error is not None and len(msgspec.json.encode(outcome.error)) > 128 << 10:
                problem = f"its error has {len(msgspec.json.encode(outcome.error))} bytes"
            if problem:
                return problem
            taken.append(outcome.elapsed)
            if taken[-1] <= allowed:
                return ""
        return f"it was over after {min(taken) / 1e3:.0f} ms at best, {allowed / 1e3:.0f} ms are allowed"

    return endure
