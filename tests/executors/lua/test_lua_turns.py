"""Executions take turns at Lua: a long one does not hold up its neighbours."""

from __future__ import annotations

import asyncio

import pytest

from dagengine.app import DAGEngine, LuaIsolation
from dagengine.events.facts import Fact, NodeSucceeded
from dagengine.executors.lua.turns import Turns

BUSY = "local sum = 0 for i = 1, 1500000 do sum = sum + i end return sum"


def names(turns: Turns) -> list[str]:
    found = []
    while turns:
        job, _ = turns.pop()
        found.append(job)
        turns.pass_on()
    return found


def test_executions_alternate_and_keep_their_own_order() -> None:
    turns = Turns()
    turns.add("a", [("a1", None), ("a2", None), ("a3", None)])
    turns.add("b", [("b1", None)])
    turns.add("c", [("c1", None), ("c2", None)])
    turns.add("a", [("a4", None)])
    assert names(turns) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]
    with pytest.raises(IndexError):
        turns.pop()


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
async def test_a_short_execution_overtakes_a_long_one(isolation: LuaIsolation) -> None:
    wide = {"nodes": [{"id": f"n{i}", "executor": {"type": "lua", "code": BUSY}} for i in range(40)]}
    chain = {
        "nodes": [
            {"id": f"n{i}", "dependencies": [f"n{i - 1}"] if i else [], "executor": {"type": "lua", "code": "return 1"}}
            for i in range(5)
        ]
    }

    def document(name: str, spec: object) -> dict[str, object]:
        metadata = {"id": name, "version": "1.0.0"}
        return {"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": metadata, "spec": spec}

    async with DAGEngine(lua=isolation) as engine:
        seen: list[str] = []
        begun = asyncio.Event()

        def observe(_: int, fact: Fact) -> None:
            if isinstance(fact, NodeSucceeded):
                seen.append(fact.node)
                begun.set()

        long = asyncio.create_task(engine.run(document("long", wide), on_fact=observe))
        await begun.wait()
        await engine.run(document("short", chain))
        assert len(seen) < 40, "the short execution waited for all nodes of the long one"
        await long
