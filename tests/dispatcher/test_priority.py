"""Who is placed first: higher priority, and who has waited long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagengine.spec.model import Document


async def started(bench: Any, engine: Any) -> list[tuple[str, int]]:
    await bench.quiet()
    return [(start.execution, start.priority) for start in engine.told("starts")]


async def test_higher_priority_is_placed_first_and_equals_in_their_order(bench: Any, lua: Document) -> None:
    for priority in (0, 3, 3, 9):
        await bench.start(lua, priority=priority)
    engine = await bench.engine(capacity=4)
    assert await started(bench, engine) == [("x4", 9), ("x2", 3), ("x3", 3), ("x1", 0)]


async def test_who_has_waited_for_long_is_not_passed_over(bench: Any, lua: Document) -> None:
    await bench.start(lua, priority=0)
    await bench.start(lua, priority=5, wait=4_000_000)
    await bench.start(lua, priority=5, wait=6_000_000)
    engine = await bench.engine(capacity=3)
    assert [name for name, _ in await started(bench, engine)] == ["x2", "x1", "x3"]


async def test_priority_holds_between_workflows_that_need_different_things(
    bench: Any, lua: Document, document: Callable[..., Document]
) -> None:
    both = document(
        [{"id": "a"}, {"id": "b", "executor": {"type": "python", "function": "f"}}], id="both", version="1.0.0"
    )
    await bench.start(lua)
    await bench.start(both, priority=1)
    engine = await bench.engine(capacity=1)
    assert await started(bench, engine) == [("x2", 1)]


async def test_priority_survives_a_restart(bench: Any, lua: Document) -> None:
    await bench.start(lua)
    await bench.start(lua, priority=7)
    await bench.restart()
    engine = await bench.engine(capacity=1)
    assert await started(bench, engine) == [("x2", 7)]
