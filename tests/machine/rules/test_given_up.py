"""An execution that was given up: its last fact may come while nodes have not ended, and says so."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine.check import check
from dagengine.machine.machine import fold

ERROR = ErrorInfo(type="Broken", message="engine-1 broke down")


def last(at: int, *, given_up: bool = True) -> facts.ExecutionFailed:
    return facts.ExecutionFailed(at=at, error=ERROR, given_up=given_up)


@pytest.fixture
def it(hand: Any) -> Any:
    it = hand([{"id": "a"}, {"id": "b", "dependencies": ["a"]}])
    it.begin()
    return it


def test_it_has_failed_with_the_fault_and_its_nodes_are_left_as_they_were(it: Any) -> None:
    journal = [*it.world.facts, last(it.now)]
    machine = fold(it.world.graph, journal, execution="e-1", seed=7)
    check(machine)
    assert (machine.state.status, machine.state.error, machine.state.given_up) == ("failed", ERROR, True)
    assert machine.ended
    assert machine.state.unfinished == 2


def test_so_may_be_one_that_somebody_had_cancelled(hand: Any) -> None:
    it = hand([{"id": "a", "run_if": "always"}])
    it.begin()
    it.cancel()
    machine = fold(it.world.graph, [*it.world.facts, last(it.now)], execution="e-1", seed=7)
    check(machine)
    assert machine.state.status == "failed"


def test_it_is_told_apart_in_the_journal_alone(it: Any) -> None:
    assert facts.decode(facts.encode(last(5))) == last(5)
    assert b"given_up" not in facts.encode(last(5, given_up=False))
    with pytest.raises(MachineError, match="2 nodes have not ended"):
        it.state.apply(last(it.now, given_up=False))


def test_only_what_has_failed_was_given_up(it: Any) -> None:
    it.state.given_up = True
    it.state.status = "cancelled"
    with pytest.raises(MachineError, match="what was given up has failed"):
        check(it.machine)
