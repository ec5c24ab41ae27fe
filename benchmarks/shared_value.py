"""A `foreach` of 1,000 items that all read one large value of a node before: what an item costs, durably.

The value is 1 MB of JSON. It is kept once, by reference, and goes to each worker once. For comparison, the same with a
value of a few bytes. The orchestrator is in this process, the engines are processes of their own.

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import structlog
import uvloop

from benchmarks import durable, figure
from benchmarks.figure import Figure

ITEMS: Final = 1_000
SIZES: Final = (("a few bytes", 10), ("1 MB", 1_000_000))


def figures(*, quick: bool) -> Iterator[Figure]:
    """Microseconds per item, for each size of the value."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    took = uvloop.run(_measure(2 if quick else 7))
    for name, _ in SIZES:
        yield figure.of(
            took[name], benchmark="foreach, 1,000 items", measure=f"share a value of {name}", unit="µs/item"
        )


async def _measure(repetitions: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {name: [] for name, _ in SIZES}
    async with durable.system("") as orchestrator:
        for _, size in SIZES:
            await orchestrator.apply(_workflow(size))
        for repetition in range(repetitions + 1):
            for name, size in SIZES:
                began = time.perf_counter()
                outputs = await orchestrator.execute_workflow(f"bench-shared-{size}", timeout=120)
                if outputs != {"total": ITEMS * size}:
                    raise RuntimeError(f"the items saw {outputs}, not {ITEMS} times {size}")
                if repetition:  # the first one compiles
                    took[name].append((time.perf_counter() - began) / ITEMS * 1e6)
    return took


def _workflow(size: int) -> dict[str, Any]:
    total = "local n = 0 for _, one in ipairs(nodes.each) do n = n + one end return n"
    return {
        "metadata": {"id": f"bench-shared-{size}", "version": "1.0.0"},
        "spec": {
            "outputs": {"total": "{{ nodes.total }}"},
            "nodes": [
                {"id": "large", "executor": {"type": "lua", "code": f"return string.rep('x', {size})"}},
                {
                    "id": "numbers",
                    "executor": {
                        "type": "lua",
                        "code": f"local list = {{}} for i = 1, {ITEMS} do list[i] = i end return list",
                    },
                },
                {
                    "id": "each",
                    "dependencies": ["large", "numbers"],
                    "foreach": "nodes.numbers",
                    "executor": {"type": "lua", "code": "return #nodes.large"},
                },
                {"id": "total", "dependencies": ["each"], "executor": {"type": "lua", "code": total}},
            ],
        },
    }


if __name__ == "__main__":
    figure.main(figures, "A foreach whose items share one large value.")
