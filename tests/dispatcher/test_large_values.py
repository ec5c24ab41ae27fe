"""Values that are too large for a fact, on their way into the store and back to an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dagengine.events import facts
from dagengine.spec.model import Document
from orchestrator.blobs import references
from orchestrator.monitor.monitor import CommittedFact
from orchestrator.store.sqlite import SQLiteStore

Journal = Callable[..., list[bytes]]
LARGE = b'"%s"' % (b"x" * 1_000_000)


@pytest.fixture
async def begun(bench: Any, lua: Document, journal: Journal) -> tuple[Any, str, list[bytes]]:
    """An engine, an execution that it has, and all facts that it makes of it, with large results."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    return engine, execution, journal(lua, execution, result=LARGE)


def history(engine: Any) -> list[bytes]:
    return [payload for part in engine.told("histories") for payload in part.facts]


async def test_they_are_kept_beside_the_facts_and_once(bench: Any, begun: Any) -> None:
    engine, execution, made = begun
    ended = bench.dispatcher.feed.end(execution)
    seen: list[CommittedFact] = []
    bench.monitor.subscribe(seen.append)
    await engine.facts(execution, made)
    record = await ended
    assert record.outputs == b'{"b":%s}' % LARGE  # whoever waits gets it as it came
    assert [fact.payload for fact in seen] == made
    stored = await SQLiteStore.facts(bench.store, execution)
    assert max(len(fact.payload) for fact in stored) < 1_000
    cited = {digest for fact in stored for digest in references.cited(fact.payload)}
    assert len(cited) == 2
    found = await bench.store.blobs(cited)
    assert [references.resolve(fact.payload, found) for fact in stored] == made
    kept = (await bench.record(execution)).outputs
    assert references.reference_of(kept).digest in cited


async def test_engines_get_them_back_with_the_history(bench: Any, begun: Any) -> None:
    engine, execution, made = begun
    await engine.facts(execution, made[:3])
    await engine.gets("acks")
    engine.cut()
    await engine.hello("engine-1", incarnation="second")
    again = (await engine.gets("starts", 2))[1]
    assert (again.execution, again.history) == (execution, 3)
    assert history(engine) == made[:3]


async def test_a_value_that_is_gone_ends_the_execution_and_no_other(
    bench: Any, lua: Document, begun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, execution, made = begun
    await engine.facts(execution, made[:3])
    await engine.gets("acks")
    engine.cut()

    async def nothing(_digests: object) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(bench.store, "blobs", nothing)
    other = await bench.start(lua)
    await engine.hello("engine-1", incarnation="second")
    assert (await engine.gets("starts", 2))[1].execution == other
    ended = bench.dispatcher.feed.end(execution)
    record = await bench.record(execution)
    record = record if record.status == "failed" else await ended
    ended.cancel()
    error = msgspec.json.decode(record.error, type=facts.ErrorInfo)
    assert error.type == "FactsLost"
    assert error.message.startswith("facts cite large values that are not kept: sha256:")


async def test_nothing_is_committed_before_they_are_kept(bench: Any, begun: Any) -> None:
    engine, execution, made = begun
    bench.store.failing.add("put_blobs")
    await engine.facts(execution, made)
    await bench.soon(lambda: "put_blobs" in bench.store.refused)
    assert await bench.stored(execution) == []
    bench.store.failing.clear()
    await bench.advance(1)
    assert len(await bench.stored(execution)) == len(made)


async def test_what_is_cancelled_while_it_waits_keeps_its_large_inputs_apart(bench: Any, lua: Document) -> None:
    execution = await bench.start(lua, inputs=b'{"x":%s}' % LARGE)
    await bench.cancel(execution)
    assert (await bench.record(execution)).status == "cancelled"
    first = (await SQLiteStore.facts(bench.store, execution))[0]
    assert list(references.citations(first.payload)) == ["inputs"]


async def test_results_that_may_be_used_again_are_answered_whole(bench: Any, document: Callable[..., Document]) -> None:
    lua = document([{"id": "a", "cache": {"key": "'k'"}}], id="cached")
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    made = [
        facts.ExecutionStarted(
            at=1, execution=execution, workflow="cached", version="1.0.0", digest="d", inputs=msgspec.Raw(b"{}")
        ),
        facts.NodeStarted(at=1, node="a", cache="c1"),
        facts.NodeSucceeded(at=1, node="a", result=msgspec.Raw(LARGE), cache="c1"),
    ]
    await engine.facts(execution, [facts.encode(fact) for fact in made])
    await engine.gets("acks")
    await engine.says(result_lookups=[{"number": 1, "digest": "c1"}, {"number": 2, "digest": "c2"}])
    found, unknown = engine.told("result_answers")
    assert (found.number, found.found, found.result, found.execution) == (1, True, LARGE, execution)
    assert (unknown.number, unknown.found) == (2, False)


async def test_a_history_waits_for_the_one_before_it_to_leave(bench: Any, lua: Document, journal: Journal) -> None:
    """What waits to be sent is in memory: a slow engine must not have a whole journal wait there."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    engine.has_room.clear()
    await engine.hello("engine-1", incarnation="second")
    await bench.advance(1)
    assert engine.told("histories") == []
    engine.has_room.set()
    await engine.gets("histories")
    await engine.gets("starts", 2)


async def test_a_history_does_not_wait_for_an_engine_that_has_gone(bench: Any, lua: Document, journal: Journal) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    await engine.facts(execution, journal(lua, execution)[:3])
    engine.has_room.clear()
    await engine.hello("engine-1", incarnation="second")
    await bench.quiet()
    engine.cut()
    engine.has_room.set()
    other = await bench.engine("engine-2")
    assert [start.execution for start in await other.gets("starts")] == [execution]
    assert len(other.told("histories")) == 1
