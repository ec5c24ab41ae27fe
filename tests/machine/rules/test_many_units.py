"""What is done about one node takes no look at what is kept about all others: executions have 100,000 of them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from dagengine.graph.compiled import Graph, compile_document
from dagengine.machine.check import check
from dagengine.machine.machine import Machine
from dagengine.machine.operations import Cancel, Signal, Skip
from dagengine.machine.stimuli import Begin, Operate
from dagengine.spec.model import Document

COUNT = 50


class UnseenSet(set[Any]):
    """A set that nobody may go through."""

    def __iter__(self) -> Any:
        raise AssertionError("somebody looks at all of them")


class UnseenDict(dict[Any, Any]):
    """A dictionary that nobody may go through."""

    def __iter__(self) -> Any:
        raise AssertionError("somebody looks at all of them")

    items = values = keys = __iter__


def begun(**node: Any) -> Machine:
    nodes = [{"id": f"n{number}", **node} for number in range(COUNT)]
    plan: Graph = compile_document(
        Document.model_validate({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}})
    )
    machine = Machine(plan, execution="e")
    machine.handle(Begin(at=1, inputs=b"{}"))
    return machine


def test_giving_up_nodes_that_wait_for_room_looks_at_each_once() -> None:
    machine = begun(executor={"type": "lua", "code": "return 1"}, pool="p")
    assert len(machine.admitting) == COUNT
    machine.admitting = UnseenSet(machine.admitting)
    machine.handle(Operate(at=2, operation=Cancel(author="a")))
    assert not machine.admitting
    assert machine.state.status == "cancelled"
    check(machine)


def test_giving_up_nodes_whose_condition_is_being_evaluated_looks_at_each_once() -> None:
    machine = begun(executor={"type": "lua", "code": "return 1"}, when="true")
    assert len(machine.asked) == COUNT
    machine.asked = UnseenDict(machine.asked)
    machine.handle(Operate(at=2, operation=Cancel(author="a")))
    assert not machine.asked
    assert machine.state.status == "cancelled"


def test_giving_up_nodes_that_wait_for_a_signal_looks_at_each_once() -> None:
    machine = begun(executor={"type": "wait", "signal": {"name": "go"}})
    assert len(machine.state.waits) == COUNT
    machine.state.waits = UnseenDict(machine.state.waits)
    machine.handle(Operate(at=2, operation=Cancel(author="a")))
    assert not machine.state.waits
    assert not machine.state.listening["go"]
    assert machine.state.status == "cancelled"


def test_signals_are_taken_in_the_order_in_which_nodes_began_to_wait() -> None:
    machine = begun(executor={"type": "wait", "signal": {"name": "go"}})
    assert isinstance(machine.state.listening["go"], OrderedDict)
    machine.handle(Operate(at=2, operation=Skip(author="a", node="n1"), command="skip"))
    for number in range(COUNT - 1):
        facts = machine.handle(Operate(at=3, operation=Signal(author="a", name="go"), command=str(number))).facts
        assert facts[1].node == ("n0" if not number else f"n{number + 1}")  # type: ignore[union-attr]  # NodeSucceeded
    assert machine.state.status == "succeeded"


def test_a_machine_that_waits_holds_on_to_no_step() -> None:
    machine = begun(executor={"type": "wait", "signal": {"name": "go"}})
    assert not machine._facts
    assert not machine._commands
