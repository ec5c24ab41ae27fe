"""Values of a megabyte through an orchestrator: what people see of them, and what the next process makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import orjson

from dagengine import DAGEngine, Workflow
from orchestrator import Orchestrator

MEGABYTE = "x" * 1_000_000


def workflow(reached: asyncio.Event, opened: asyncio.Event) -> Workflow:
    """`large` makes a megabyte, `items` walks over four large strings, `hold` waits, `last` hands the megabyte on."""
    wf = Workflow("large", "1.0.0")
    quick = {"error": {"max_attempts": 3, "backoff": {"initial": "1ms"}}}

    @wf.python
    def large() -> str:
        return MEGABYTE

    @wf.python(depends_on=[large])
    def several() -> list[str]:
        return [letter * 100_000 for letter in "abcd"]

    wf.lua("items", "return #item", depends_on=[several], foreach="nodes.several")

    @wf.python(depends_on=["items"], retry=quick)
    async def hold() -> None:
        reached.set()
        await opened.wait()

    wf.lua("last", "return {large = nodes.large, sizes = nodes.items}", depends_on=[hold, large, "items"])
    return wf


async def test_a_megabyte_survives_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/orchestrator.db"
    reached, opened = asyncio.Event(), asyncio.Event()
    wf = workflow(reached, opened)
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("large", "1.0.0", wf)
        view = await orch.start("large", {})
        await reached.wait()
        nodes = {node.id: node for node in await orch.nodes(view.id)}
        assert (nodes["items"].state, nodes["items"].items, nodes["items"].items_succeeded) == ("succeeded", 4, 4)
        assert "last" in {reason.node for reason in (await orch.why(view.id)).nodes}
    opened.set()
    async with Orchestrator(url) as orch:
        orch.register_engine("engine-1", DAGEngine(functions=wf.functions))
        ended = await orch.wait(view.id)
        wanted = {"last": {"large": MEGABYTE, "sizes": [100_000] * 4}}
        assert (ended.status, ended.outputs) == ("succeeded", wanted)
        assert (await orch.execution(view.id)).outputs == wanted
        [attempt] = await orch.attempts(view.id, "large")
        assert orjson.loads(bytes(attempt.result)) == MEGABYTE  # type: ignore[arg-type]  # it has succeeded
        [shown] = [fact for fact in await orch.facts(view.id) if _is(fact.fact, "NodeSucceeded", "large")]
        assert orjson.loads(bytes(shown.fact))["result"] == MEGABYTE
        followed = [event.seq async for event in orch.events(view.id)]
        assert followed == list(range(1, ended.last_seq + 1))
    with contextlib.closing(sqlite3.connect(tmp_path / "orchestrator.db")) as store:
        # The journal holds references, and each value once: the list, the megabyte, and two that it is in.
        assert store.execute("SELECT max(length(payload)) < 2000, count(*) FROM facts").fetchone() == (1, len(followed))
        sizes = sorted(size for (size,) in store.execute("SELECT length(value) FROM blobs"))
    assert len(sizes) == 4
    assert sizes[:2] == [400_013, 1_000_002]


def _is(fact: Any, kind: str, node: str) -> bool:
    members = orjson.loads(bytes(fact))
    return (members["type"], members.get("node")) == (kind, node)
