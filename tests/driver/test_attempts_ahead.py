"""Attempts that are performed before they are asked for: whatever happens meanwhile, results are those that they ought
to be, and nothing is waited for that never comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from dagengine.executors.base import Done, Job, Outcome
from dagengine.machine import operations
from dagengine.machine.stimuli import TimePassed

_encode, _decode = msgspec.json.encode, msgspec.json.decode


class Hasty:
    """Performs chains as `LuaProcesses` does, one attempt at each `perform`; drops what it likes of what nobody knows.

    The result of an attempt tells what it has seen: the inputs, and the result of the node before it.
    """

    runs_ahead = True

    def __init__(self) -> None:
        self.chains: list[deque[Job]] = []
        self._made: list[dict[str, bytes]] = []
        self._done: Done = lambda job, outcome: None
        self.cancelled: set[tuple[str, int]] = set()

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        self._done = done
        for job in jobs:
            chain, then = deque([job]), job.then
            while then is not None:
                chain.append(then)
                then = then.then
            self.chains.append(chain)
            self._made.append({})

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        self.cancelled.add((node, attempt))

    async def close(self) -> None:
        self.chains.clear()

    def drop(self, at: int, keep: int) -> None:
        """Only the first of a chain is known to be under way; the others come again by themselves."""
        while len(self.chains[at]) > max(keep, 1):
            self.chains[at].pop()

    def perform(self, at: int, conclusion: Any = "success") -> None:
        chain, made = self.chains[at], self._made[at]
        job = chain.popleft()
        if (job.node, job.attempt) in self.cancelled:
            conclusion = "error"
        outcome = Outcome(conclusion="error", error=ErrorInfo(type="Killed", message="it was killed"))
        if conclusion == "success":
            before = [made.get(node) or job.scope.nodes.get(node) for node in _above(job)]
            result = made[job.node] = _seen(job.scope.inputs, before)
            outcome = Outcome(conclusion="success", result=result, ahead=bool(chain))
        else:
            chain.clear()
        if not chain:
            del self.chains[at], self._made[at]
        self._done(job, outcome)


def _above(job: Job) -> list[str]:
    return job.spec.code.split()  # type: ignore[attr-defined]  # a Lua node: its code names what it reads


def _seen(inputs: bytes, before: Sequence[bytes | None]) -> bytes:
    # As short as may be, and different for whatever else was seen.
    known = repr((_decode(inputs)["x"], before)).encode()
    return _encode(int.from_bytes(known, "big") % 1_000_003)


def _check(told: Sequence[Fact], above: dict[str, list[str]]) -> None:
    """Every result is what its attempt ought to have seen when it was said to start."""
    edits: dict[str, bytes] = {}
    results: dict[str, bytes] = {}
    expected: dict[tuple[str, int], bytes] = {}
    for fact in told:
        match fact:
            case facts.InputsEdited():
                edits[fact.node] = bytes(fact.inputs)
            case facts.NodeStarted():
                seen = [results.get(node) for node in above[fact.node]]
                expected[fact.node, fact.attempt] = _seen(edits.get(fact.node, b'{"x":0}'), seen)
            case facts.NodeSucceeded(result=msgspec.Raw()):
                results[fact.node] = bytes(fact.result)
                assert results[fact.node] == expected.pop((fact.node, fact.attempt)), fact.node
            case facts.NodeOverridden(result=msgspec.Raw()):
                results[fact.node] = bytes(fact.result)
            case facts.RerunRequested():
                for node in fact.nodes:
                    results.pop(node, None)


@pytest.fixture
def begin(drive: Any, held_journal: Any) -> Callable[..., Any]:
    def make(above: dict[str, list[str]], *, reach: int = 1) -> Any:
        nodes = [
            {
                "id": node,
                "dependencies": near,
                "executor": {"type": "lua", "code": " ".join(near) or " "},
                "retry": {"error": {"max_attempts": 1_000, "backoff": {"initial": "0s"}}},
            }
            for node, near in above.items()
        ]
        executor, journal = Hasty(), held_journal()
        driver = drive(nodes, journal=journal, executors={"lua": executor}, inputs={"x": {"type": "integer"}})
        driver._attempts._chains._reach = reach
        driver.start(b'{"x":0}')
        return driver, executor, journal

    return make


def _chain(length: int) -> dict[str, list[str]]:
    return {f"n{at}": [f"n{at - 1}"] if at else [] for at in range(length)}


def _hand_over(executor: Hasty, most: int) -> list[str]:
    """Go on until so many are handed over together: their nodes."""
    while len(executor.chains[0]) < most:
        executor.perform(0)
    return [job.node for job in executor.chains[0]]


async def test_inputs_that_somebody_sets_meanwhile_are_seen(begin: Any) -> None:
    above = _chain(30)
    driver, executor, journal = begin(above)
    _, second, *_ = _hand_over(executor, 4)
    driver.operate(operations.EditInputs(node=second, inputs=msgspec.Raw(b'{"x":7}')))
    while executor.chains:
        executor.perform(0)
    assert driver.state.ended
    _check(journal.facts, above)


async def test_of_two_attempts_that_are_performed_the_one_counts_that_was_asked_for(begin: Any) -> None:
    """The first was thrown away because of a pause, and is slow to end."""
    above = _chain(30)
    driver, executor, journal = begin(above)
    _, second, third, *_ = _hand_over(executor, 4)
    driver.operate(operations.Pause())
    executor.perform(0)  # the second goes on there, and nobody will ask for it
    driver.operate(operations.Unpause())
    assert [chain[0].node for chain in executor.chains] == [second, second]
    executor.perform(1)  # the third is asked for, and under way there
    executor.perform(0)
    assert [chain[0].node for chain in executor.chains] == [third, third]
    executor.perform(0, "error")  # nobody's loss
    while executor.chains:
        executor.perform(0)
    assert driver.state.ended
    assert driver.state.attempt == [1] * 30
    _check(journal.facts, above)


async def test_what_somebody_put_in_the_place_of_a_result_is_seen(begin: Any) -> None:
    """The attempt that it replaces has ended by then, but nobody knows; what follows was held back by the journal."""
    above = _chain(30)
    driver, executor, journal = begin(above)
    first, *_ = _hand_over(executor, 4)
    journal.congested = True
    driver.operate(operations.Skip(node=first, result=msgspec.Raw(b"12345")))
    executor.cancelled.clear()  # it was too late for that
    journal._congested = False  # nobody was told so yet
    executor.perform(0)
    while executor.chains:
        executor.perform(0)
    assert driver.state.ended
    _check(journal.facts, above)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_happens_meanwhile_results_are_what_they_ought_to_be(begin: Any, data: st.DataObject) -> None:
    above = _chain(data.draw(st.integers(3, 12), label="chain"))
    for at in range(data.draw(st.integers(0, 4), label="others")):
        near = data.draw(st.lists(st.sampled_from(list(above)), min_size=1, max_size=2, unique=True))
        above[f"o{at}"] = near
    driver, executor, journal = begin(above, reach=8)
    nodes = list(above)
    for step in range(data.draw(st.integers(1, 40), label="steps")):
        near = [job.node for chain in executor.chains for job in chain] or nodes
        node = data.draw(st.sampled_from(near))
        match data.draw(
            st.sampled_from(["perform"] * 6 + ["fail", "drop", "pause", "go", "edit", "skip", "rerun", "j"])
        ):
            case "perform" | "fail" as what if executor.chains:
                at = data.draw(st.integers(0, len(executor.chains) - 1))
                executor.perform(at, "success" if what == "perform" else "error")
            case "drop" if executor.chains:
                executor.drop(data.draw(st.integers(0, len(executor.chains) - 1)), data.draw(st.integers(1, 3)))
            case "pause":
                driver.operate(operations.Pause(node=data.draw(st.sampled_from(["", node]))), command=f"{step}")
            case "go":
                driver.operate(operations.Unpause(), command=f"{step}")
                driver.operate(operations.Unpause(node=node), command=f"{step}n")
            case "edit":
                inputs = msgspec.Raw(_encode({"x": step + 1}))
                driver.operate(operations.EditInputs(node=node, inputs=inputs), command=f"{step}")
            case "skip":
                result = msgspec.Raw(_encode(-step))
                driver.operate(operations.Skip(node=node, result=result), command=f"{step}")
            case "rerun":
                driver.operate(operations.Rerun(nodes=(node,)), command=f"{step}")
            case "j":
                journal.congested = not journal.congested
        journal.commit()
    journal.congested = False
    driver.operate(operations.Unpause(), command="all")
    for node in nodes:
        driver.operate(operations.Unpause(node=node), command=node)
    for _ in range(10_000):
        if executor.chains:
            executor.perform(0)
            journal.commit()
        elif driver.state.ended:
            break
        else:
            driver._handle(TimePassed(at=driver.wake_at + 1))  # for retries
    assert driver.state.ended, "something is waited for that never comes"
    assert driver._attempts._under_way == 0
    _check(journal.facts, above)
