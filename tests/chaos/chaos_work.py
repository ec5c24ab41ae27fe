"""The work that goes on while things are killed: three workflows, what each of their effects has to be given, and jobs.

What must not depend on luck (outputs) does not; what an effect is given does, on purpose: the time at which a pure
node began, and random numbers of other effects. An effect that was based on a result that never came to be would show a
value that is not in the journal. Each effect leaves one line in a file, by one write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["DOCUMENTS", "EFFECTS", "EXPECTED", "GIVEN", "Job", "POOL", "jobs"]

EFFECTS: Final = '''
"""Effects in Python: a line for each attempt, then some time, then a result that is another one each time."""
import asyncio, os, secrets

async def work(given, seconds, context):
    index = "-" if context.index is None else context.index
    line = f"{context.idempotency_key} {context.execution} {context.node} {index} {context.number} {given}\\n"
    log = os.open(os.environ["EFFECTS_LOG"], os.O_WRONLY | os.O_APPEND)
    os.write(log, line.encode())
    os.close(log)
    await asyncio.sleep(seconds)
    return {"nonce": secrets.token_hex(8)}
'''

_SCRIPT: Final = """
line="$DAG_IDEMPOTENCY_KEY $DAG_EXECUTION $DAG_NODE - $DAG_ATTEMPT $GIVEN"
printf '%s\\n' "$line" >> "$EFFECTS_LOG"
sleep 0.05
case "$DAG_IDEMPOTENCY_KEY" in */0) exit 3;; esac
echo "{\\"nonce\\": \\"$DAG_ATTEMPT-$$\\"}"
"""
"""Fails once, by its own word: the generation after that has another key."""

POOL: Final = "desk=12"
"""A pool over the whole system: room in it that is lost with an engine would hold everything up after a few rounds."""

_RETRY: Final = {
    "error": {"max_attempts": 20, "backoff": {"initial": "20ms", "factor": 1}},
    "fail": {"max_attempts": 2, "backoff": {"initial": "20ms"}},
}


def _lua(id: str, code: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "dependencies": list(dependencies), "executor": {"type": "lua", "code": code}, **more}


def _effect(id: str, given: str, *dependencies: str, **more: Any) -> dict[str, Any]:
    executor = {"type": "python", "function": "work", "args": {"given": given, "seconds": 0.05}}
    return {"id": id, "dependencies": list(dependencies), "executor": executor, "retry": _RETRY, **more}


def _workflow(id: str, nodes: list[dict[str, Any]], **outputs: str) -> dict[str, Any]:
    inputs = {"n": {"type": "integer"}}
    return {"metadata": {"id": id, "version": "1.0.0"}, "spec": {"inputs": inputs, "nodes": nodes, "outputs": outputs}}


_BURN: Final = "local n = 0 for i = 1, 200000 do n = n + i % 7 end return "

DOCUMENTS: Final = (
    _workflow(
        "pure",
        [
            _lua("a", "return inputs.n + 1"),
            _lua("b", _BURN + "nodes.a * 2", "a"),
            _lua("c", "return item + nodes.b", "b", foreach="{1, 2, 3, 4, 5, 6, 7, 8}", max_parallel=3),
            _lua("d", "local sum = 0 for _, value in ipairs(nodes.c) do sum = sum + value end return sum", "c"),
            _lua("e", _BURN + "nodes.d + 1", "d"),
        ],
        sum="{{ nodes.e }}",
    ),
    _workflow(
        "effects",
        [
            _lua("moment", "return {at = time.now()}"),
            _effect("mark", "{{ nodes.moment.at }}", "moment"),
            {
                "id": "write",
                "dependencies": ["mark"],
                "executor": {"type": "shell", "script": _SCRIPT, "env": {"GIVEN": "{{ nodes.mark.nonce }}"}},
                "retry": _RETRY,
            },
            _effect("each", "{{ nodes.mark.nonce }}/{{ item }}", "mark", foreach='{"x", "y", "z"}', pool="desk"),
            _lua("between", "return nodes.write.nonce .. '+' .. nodes.each[2].nonce", "write", "each"),
            _effect("last", "{{ nodes.between }}", "between"),
            _lua("double", "return inputs.n * 2", "last"),
        ],
        double="{{ nodes.double }}",
        marks="{{ #nodes.each }}",
    ),
    _workflow(
        "waiting",
        [
            {"id": "paid", "executor": {"type": "wait", "signal": {"name": "paid"}}},
            {"id": "pause", "executor": {"type": "wait", "duration": "200ms"}},
            _effect("ship", "{{ nodes.paid.by }}", "paid", "pause", pool="desk"),
            _lua("after", "return {n = inputs.n, at = time.now()}", "ship"),
            _effect("report", "{{ nodes.after.at }}", "after"),
        ],
        n="{{ nodes.after.n }}",
        by="{{ nodes.paid.by }}",
    ),
)

GIVEN: Final[Mapping[tuple[str, str], Callable[[Mapping[str, Any], int], object]]] = {
    ("effects", "mark"): lambda results, _: results["moment"]["at"],
    ("effects", "write"): lambda results, _: results["mark"]["nonce"],
    ("effects", "each"): lambda results, index: f"{results['mark']['nonce']}/{'xyz'[index]}",
    ("effects", "last"): lambda results, _: results["between"],
    ("waiting", "ship"): lambda results, _: results["paid"]["by"],
    ("waiting", "report"): lambda results, _: results["after"]["at"],
}
"""What each effect has to be given, from the committed results of the nodes and its index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution to be started, `starts` seconds into the round.

    `signals`: how long after that to send what it waits for. `follows`: whether somebody watches its events.
    """

    key: str
    workflow: str
    n: int
    starts: float
    signals: float
    follows: bool = False

    @property
    def expected(self) -> dict[str, Any]:
        """The outputs of an undisturbed run; the first round, without any fault, proves that they are."""
        return EXPECTED[self.workflow](self.n)


EXPECTED: Final[Mapping[str, Callable[[int], dict[str, Any]]]] = {
    "pure": lambda n: {"sum": 36 + 8 * (n + 1) * 2 + 1},
    "effects": lambda n: {"double": 2 * n, "marks": 3},
    "waiting": lambda n: {"n": n, "by": "ada"},
}


def jobs(rng: random.Random, prefix: str, *, within: float, count: int = 50) -> list[Job]:
    """The executions of one round: half of them with effects, the others pure or waiting."""
    workflows = ("effects", "pure", "effects", "waiting")
    return [
        Job(
            key=f"{prefix}-{number}",
            workflow=workflows[number % 4],
            n=rng.randrange(100),
            starts=rng.uniform(0, within),
            signals=rng.uniform(0, within),
            follows=number % 3 == 0,
        )
        for number in range(count)
    ]
