"""Executions that share a key: queued, skipped or replaced, and restored after a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import structlog

from dagengine.machine import operations
from dagengine.spec.model import Document
from orchestrator.errors import AtLimit

Make = Callable[..., Document]
Journal = Callable[..., list[bytes]]


@pytest.fixture
def make(document: Make) -> Make:
    def made(on_conflict: str = "queue", most: int = 1, **spec: Any) -> Document:
        return document(
            [{"id": "a"}], id=f"{on_conflict}-{most}", concurrency={"max": most, "on_conflict": on_conflict}, **spec
        )

    return made


async def starts(bench: Any, engine: Any) -> list[str]:
    await bench.quiet()
    return [start.execution for start in engine.told("starts")]


async def end(engine: Any, journal: Journal, document: Document, execution: str, *, epoch: int = 1) -> None:
    await engine.facts(execution, journal(document, execution), epoch=epoch)


async def test_queue_waits_for_the_one_before(bench: Any, make: Make, journal: Journal) -> None:
    queue, engine = make(), await bench.engine()
    first = await bench.start(queue, concurrency_key="queue-1/acme")
    second = await bench.start(queue, concurrency_key="queue-1/acme")
    other = await bench.start(queue, concurrency_key="queue-1/other")
    assert await starts(bench, engine) == [first, other]
    assert await bench.waiting_on(second) == "concurrency"
    assert (bench.dispatcher.running, bench.dispatcher.queued) == (2, 1)
    await end(engine, journal, queue, first)
    assert await starts(bench, engine) == [first, other, second]
    assert await bench.waiting_on(second) is None


async def test_what_waits_for_others_can_be_cancelled(bench: Any, make: Make, journal: Journal) -> None:
    queue, engine = make(), await bench.engine()
    executions = [await bench.start(queue, concurrency_key="k") for _ in range(3)]
    await bench.cancel(executions[1])
    assert (await bench.record(executions[1])).status == "cancelled"
    await end(engine, journal, queue, executions[0])
    assert await starts(bench, engine) == [executions[0], executions[2]]


async def test_skip_refuses_what_comes_on_top(bench: Any, make: Make, journal: Journal) -> None:
    skip, engine = make("skip", 2), await bench.engine()
    first = await bench.start(skip, concurrency_key="skip-2/acme")
    await bench.start(skip, concurrency_key="skip-2/acme")
    with pytest.raises(AtLimit, match=r"2 of 2 executions of 'skip-2' are under way \(concurrency key 'acme'\)"):
        await bench.start(skip, concurrency_key="skip-2/acme")
    assert await bench.store.execution("x3") is None
    await starts(bench, engine)
    await end(engine, journal, skip, first)
    await bench.quiet()
    await bench.start(skip, concurrency_key="skip-2/acme")


async def test_a_place_is_free_again_when_the_execution_is_not_recorded(bench: Any, make: Make) -> None:
    skip = make("skip")
    new = {"concurrency_key": "skip-1/acme"}
    await bench.start(skip, **new)
    await bench.restart()
    with pytest.raises(AtLimit):
        await bench.start(skip, **new)
    await bench.cancel("x1")
    bench.store.create_execution, create = _failing, bench.store.create_execution
    with pytest.raises(OSError, match="not now"):
        await bench.start(skip, **new)
    bench.store.create_execution = create
    await bench.start(skip, **new)


async def _failing(_new: object) -> None:
    raise OSError("not now")


async def test_replace_cancels_the_oldest_and_takes_its_place(bench: Any, make: Make, journal: Journal) -> None:
    replace, engine = make("replace"), await bench.engine()
    first = await bench.start(replace, concurrency_key="k")
    await starts(bench, engine)
    second = await bench.start(replace, concurrency_key="k")
    [delivery] = await engine.gets("deliveries")
    assert (delivery.execution, delivery.kind) == (first, "cancel")
    assert operations.decode(delivery.payload).reason == f"replaced by execution {second}"
    assert await bench.waiting_on(second) == "concurrency"
    await end(engine, journal, replace, first)
    assert await starts(bench, engine) == [first, second]


async def test_replace_ends_what_only_waits_at_once(bench: Any, make: Make) -> None:
    replace, engine = make("replace"), await bench.engine()
    first = await bench.start(replace, concurrency_key="k")
    await starts(bench, engine)
    second = await bench.start(replace, concurrency_key="k")
    third = await bench.start(replace, concurrency_key="k")
    await bench.quiet()
    assert [(await bench.record(one)).status for one in (first, second, third)] == ["queued", "cancelled", "queued"]
    assert [item.execution for item in await bench.store.inbox()] == [first]


async def test_the_wish_to_replace_outlives_trouble_with_the_store(bench: Any, make: Make) -> None:
    replace, engine = make("replace"), await bench.engine()
    await bench.start(replace, concurrency_key="k")
    await starts(bench, engine)
    bench.store.failing.add("add_inbox")
    await bench.start(replace, concurrency_key="k")
    await bench.quiet()
    assert engine.told("deliveries") == []
    bench.store.failing.clear()
    await bench.advance(1)
    assert len(await engine.gets("deliveries")) == 1


async def test_after_a_restart_the_same_ones_wait(bench: Any, make: Make, journal: Journal) -> None:
    queue, engine = make(), await bench.engine()
    first, second, third = [await bench.start(queue, concurrency_key="k") for _ in range(3)]
    assert await starts(bench, engine) == [first]
    await bench.restart()
    engine = await bench.engine(held=[(first, 1, 0)])
    assert await starts(bench, engine) == []
    assert [await bench.waiting_on(one) for one in (second, third)] == ["concurrency", "concurrency"]
    await end(engine, journal, queue, first, epoch=2)
    assert await starts(bench, engine) == [second]


async def test_after_a_restart_the_replaced_is_told_once_more(bench: Any, make: Make, journal: Journal) -> None:
    replace, engine = make("replace"), await bench.engine()
    first = await bench.start(replace, concurrency_key="k")
    await starts(bench, engine)
    bench.store.failing.add("add_inbox")
    second = await bench.start(replace, concurrency_key="k")
    await bench.quiet()
    bench.store.failing.clear()
    await bench.restart()
    await bench.quiet()
    engine = await bench.engine(held=[(first, 1, 0)])
    [delivery] = await engine.gets("deliveries")
    assert delivery.id == f"replace-{first}-{second}"


async def test_what_runs_parts_again_waits_for_its_turn(bench: Any, make: Make, journal: Journal) -> None:
    skip, engine = make("skip"), await bench.engine()
    first = await bench.start(skip, concurrency_key="k")
    await starts(bench, engine)
    await end(engine, journal, skip, first)
    await bench.quiet()
    second = await bench.start(skip, concurrency_key="k")
    await bench.operate(first, operations.Rerun(nodes=("a",)), id="again")
    assert await starts(bench, engine) == [first, second]
    assert await bench.waiting_on(first) == "concurrency"
    await end(engine, journal, skip, second)
    assert await starts(bench, engine) == [first, second, first]


async def test_who_is_to_be_replaced_is_told_after_a_time_out_of_touch(bench: Any, make: Make) -> None:
    await bench.restart(lease=0.05)
    replace, engine = make("replace"), await bench.engine()
    first = await bench.start(replace, concurrency_key="k")
    await engine.gets("starts")
    gate = bench.store.hold("add_inbox")
    await bench.start(replace, concurrency_key="k")
    await bench.store.reached("add_inbox")
    bench.store.failing.add("join")
    await bench.store.leave()
    with structlog.testing.capture_logs() as logs:
        gate.set()
        await bench.soon(lambda: any(entry["event"] == "replaced_not_cancelled" for entry in logs))
    bench.store.failing.clear()
    await bench.advance(3)
    assert not bench.dispatcher.feed.closed
    assert {delivery.execution for delivery in engine.told("deliveries")} == {first}
