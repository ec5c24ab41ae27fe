"""Items that end as soon as they begin do not pile up on each other."""

from __future__ import annotations

from dagengine.graph.compiled import compile_document
from dagengine.machine.machine import Machine
from dagengine.machine.stimuli import Begin, Evaluated
from dagengine.spec.model import Document


def test_very_many_items_may_end_in_the_step_that_begins_them() -> None:
    wait = {"type": "wait", "until": "2000-01-01T00:00:00Z"}
    nodes = [{"id": "each", "foreach": "inputs.list", "executor": wait}]
    plan = compile_document(
        Document.model_validate({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}})
    )
    machine, at = Machine(plan, execution="e"), 10**16
    machine.handle(Begin(at=at, inputs=b"{}"))
    value = b"[" + b",".join([b"1"] * 5_000) + b"]"
    machine.handle(Evaluated(at=at, purpose="foreach", node=0, index=-1, serial=1, value=value))
    assert machine.state.status == "succeeded"
