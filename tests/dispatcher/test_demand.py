"""What there is to run, as the leader counts it: what engines have, by engine, and what waits, by what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dagengine.spec.model import Document
from orchestrator.dispatcher.demand import measure
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.placement import Needs
from orchestrator.dispatcher.plans import Plans
from orchestrator.errors import StoreError


@pytest.fixture
def picky(document: Callable[..., Document]) -> Document:
    """A workflow for an engine of its own in the pool `gpu`."""
    return document([{"id": "a"}], id="picky", engine={"pool": "gpu", "exclusive": True})


async def test_what_waits_is_counted_by_what_it_needs(bench: Any, lua: Document, picky: Document) -> None:
    for _ in range(3):
        await bench.start(lua)
    await bench.start(picky)
    demand = await bench.dispatcher.demand()
    assert demand.engines == {}
    assert demand.waiting == {
        Needs(executors=frozenset({"lua"})): 3,
        Needs(executors=frozenset({"lua"}), labels=frozenset({("pool", "gpu")}), exclusive=True): 1,
    }


async def test_what_engines_have_is_counted_by_engine(bench: Any, lua: Document, picky: Document) -> None:
    one = await bench.engine("engine-1", capacity=2)
    two = await bench.engine("engine-2", labels={"pool": "gpu"})
    await bench.start(picky)
    await two.gets("starts")
    for _ in range(3):
        await bench.start(lua)
    await one.gets("starts", 2)
    demand = await bench.dispatcher.demand()
    assert (demand.engines["engine-1"].executions, demand.engines["engine-1"].exclusive) == (2, 0)
    assert (demand.engines["engine-2"].executions, demand.engines["engine-2"].exclusive) == (1, 1)
    assert demand.engines["engine-2"].address == "engine-2:1"
    assert sum(demand.waiting.values()) == 1


async def test_what_an_engine_has_of_other_replicas_counts_too(bench: Any) -> None:
    engine = await bench.engine()
    await engine.says(load={"running": 4})
    assert (await bench.dispatcher.demand()).engines["engine-1"].executions == 4


async def test_what_waits_for_others_under_its_key_waits_for_no_engine(
    bench: Any, document: Callable[..., Document]
) -> None:
    one_by_one = document([{"id": "a"}], id="keyed", concurrency={"key": "k", "max": 1, "on_conflict": "queue"})
    for _ in range(3):
        await bench.start(one_by_one, concurrency_key="keyed/k")
    assert sum((await bench.dispatcher.demand()).waiting.values()) == 1


async def test_engines_that_drain_and_engines_that_are_gone_are_told_apart(bench: Any, lua: Document) -> None:
    one = await bench.engine("engine-1")
    execution = await bench.start(lua)
    await one.gets("starts")
    bench.dispatcher.links.describe("engine-1:1", capacity=0, draining="its pod is marked workflow-engine/drain")
    (engine,) = (await bench.dispatcher.demand()).engines.values()
    assert (engine.connected, engine.draining, engine.executions) == (True, True, 1)
    await bench.dispatcher.remove_link("engine-1:1")
    (engine,) = (await bench.dispatcher.demand()).engines.values()
    assert (engine.connected, engine.executions) == (False, 1)
    assert (await bench.record(execution)).engine == "engine-1"


async def test_documents_of_what_other_replicas_run_are_read_once(
    bench: Any, lua: Document, picky: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    for document in (lua, picky):
        await bench.start(document)
    read: list[str] = []
    document_of = bench.store.document

    async def told(digest: str) -> bytes | None:
        read.append(digest)
        return await document_of(digest)  # type: ignore[no-any-return]  # the bench is Any

    monkeypatch.setattr(bench.store, "document", told)
    plans, nobody = Plans(bench.store, frozenset()), Ledger()  # nothing of it is this replica's
    for _ in range(3):
        demand = await measure(bench.store, nobody, plans, bench.clock)
        assert sorted(needs.exclusive for needs in demand.waiting) == [False, True]
    assert sorted(read) == sorted([lua.digest, picky.digest])


async def test_without_the_store_nothing_is_known(bench: Any) -> None:
    await bench.store.close()
    with pytest.raises(StoreError):
        await bench.dispatcher.demand()
    await bench.store.open()
