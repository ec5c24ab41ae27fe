"""What a node costs in memory, and how long a command takes to start.

DAGs of 100 to 100,000 trivial Lua nodes through `DAGEngine.run`, with Lua inline: the time covers compiling the graph,
the machine, the driver, the journal in memory and one sandboxed Lua call per node; it does not cover reading the
document or its digest.

- chain: each node waits for the one before it; all nodes have the same code
- chain reads: the same, but each node adds 1 to the result before it, so that no two nodes have the same code
- fan-out: one node, n - 2 that wait for it, one that waits for all of those
- layered: layers of √n nodes, each of which waits for three of the layer before
- foreach: one node with n - 1 items
- foreach, bounded: the same with `max_parallel: 64`
- foreach, read: the same, and a node that reads the list of all results

The first run of a workflow in a process compiles the code of its nodes, once for each text; it has figures of its own.
How much dearer a node is in large graphs than in small ones is told by processor time, which neighbours on the machine
disturb less.

Every case runs in a process of its own (so that its peak memory is its own), and the repetitions are interleaved (so
that a disturbance of the machine hits all cases alike). Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import figure
from benchmarks.figure import Figure

SIZES = (100, 1_000, 10_000, 100_000)
SHAPES = ("chain", "chain reads", "fan-out", "layered", "foreach", "foreach, bounded", "foreach, read")
WIDE = ("fan-out", "layered", "foreach")
LARGE = 100_000
"""From this size on there are fewer repetitions."""
ROOT = Path(__file__).parents[1]
HELLO = ROOT / "examples" / "00-hello" / "hello.yaml"
CODE = "return 1"


def figures(*, quick: bool) -> Iterator[Figure]:
    """µs per node and MiB of peak memory for every shape and size, then seconds to start."""
    yield from _shapes(repetitions=1 if quick else 5, sizes=SIZES[:1] if quick else SIZES)
    yield from _cold_start(repetitions=1 if quick else 10)


def nodes(shape: str, size: int) -> list[dict[str, Any]]:
    """The nodes of a DAG of `size` nodes (or items), as a document has them."""
    match shape:
        case "chain":
            return [_node(n, [n - 1] if n else []) for n in range(size)]
        case "chain reads":
            return [_node(n, [n - 1], f"return nodes.n{n - 1} + 1") if n else _node(0, []) for n in range(size)]
        case "fan-out":
            middle = range(1, size - 1)
            return [_node(0, []), *(_node(n, [0]) for n in middle), _node(size - 1, list(middle))]
        case "layered":
            width = math.isqrt(size)
            return [_node(n, _three_above(n, width)) for n in range(size)]
        case "foreach":
            return _foreach(size - 1)
        case "foreach, bounded":
            source, each = _foreach(size - 1)
            return [source, {**each, "max_parallel": 64}]
        case "foreach, read":
            return [*_foreach(size - 2), _node(2, [1], "return #nodes.n1")]
    raise ValueError(f"unknown shape {shape!r}")


def _foreach(items: int) -> list[dict[str, Any]]:
    source = _node(0, [], f"local list = {{}} for i = 1, {items} do list[i] = i end return list")
    return [source, {**_node(1, [0], "return item + 1"), "foreach": "nodes.n0"}]


def _node(number: int, dependencies: list[int], code: str = CODE) -> dict[str, Any]:
    return {
        "id": f"n{number}",
        "dependencies": [f"n{other}" for other in dependencies],
        "executor": {"type": "lua", "code": code},
    }


def _three_above(number: int, width: int) -> list[int]:
    layer, column = divmod(number, width)
    if layer == 0:
        return []
    return sorted({(layer - 1) * width + (column + step) % width for step in (0, 1, 7)})


def _shapes(*, repetitions: int, sizes: tuple[int, ...]) -> Iterator[Figure]:
    cases = [(shape, size) for shape in SHAPES for size in sizes]
    times: dict[tuple[str, int], list[float]] = defaultdict(list)
    processor: dict[tuple[str, int], list[float]] = defaultdict(list)
    firsts: dict[tuple[str, int], list[float]] = defaultdict(list)
    peaks: dict[tuple[str, int], list[float]] = defaultdict(list)
    for repetition in range(repetitions):
        for shape, size in cases:
            if size >= LARGE and repetition >= 2:
                continue
            answer = _python("-m", "benchmarks.machine", "--case", shape, str(size))
            measured = json.loads(answer)
            first, *others = measured["microseconds_per_node"]
            firsts[shape, size].append(first)
            times[shape, size] += others
            processor[shape, size] += measured["processor_microseconds_per_node"][1:]
            peaks[shape, size].append(measured["peak_mib"])
    for shape, size in cases:
        name = f"{shape}, {size:,} nodes"
        goal = "≤ 10" if shape in WIDE else ""
        yield figure.of(times[shape, size], benchmark="in memory", measure=name, unit="µs/node", goal=goal)
    for shape in SHAPES if len(sizes) > 1 else ():
        medians = [statistics.median(processor[shape, size]) for size in sizes]
        name, goal = f"{shape}: dearest size / cheapest size", "≤ 1.2" if shape in WIDE else ""
        ratio = [max(medians) / min(medians)]
        yield figure.of(ratio, benchmark="in memory, processor time", measure=name, unit="times", goal=goal)
    for shape in SHAPES:
        name, case = f"{shape}, {sizes[-1]:,} nodes", (shape, sizes[-1])
        yield figure.of(firsts[case], benchmark="in memory, first run", measure=name, unit="µs/node")
    for shape in SHAPES:
        name, case = f"{shape}, {sizes[-1]:,} nodes", (shape, sizes[-1])
        yield figure.of(peaks[case], benchmark="peak RSS", measure=name, unit="MiB")


def _cold_start(*, repetitions: int) -> Iterator[Figure]:
    run = "import sys; from orchestrator.cli.dagctl import main; sys.exit(main())"
    commands = {"dagctl --help": (["--help"], "≤ 0.3"), "dagctl run hello.yaml": (["run", str(HELLO)], "≤ 0.6")}
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(repetitions):
        began = time.perf_counter()
        _python("-c", "pass")
        times["python -c pass"].append(time.perf_counter() - began)
        for name, (arguments, _goal) in commands.items():
            began = time.perf_counter()
            _python("-c", run, *arguments)
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        goal = commands[name][1] if name in commands else ""
        yield figure.of(seconds, benchmark="cold start", measure=name, unit="s", goal=goal)


def _python(*arguments: str) -> str:
    """What a fresh interpreter prints. Raises RuntimeError with what it said when it fails."""
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode != 0:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {ran.returncode}:\n{ran.stderr}")
    return ran.stdout


async def _measure(shape: str, size: int) -> dict[str, Any]:
    """One case in this process, several times, after a first small run that loads everything."""
    from dagengine.app import DAGEngine, read_workflow

    def document(of_size: int) -> Any:
        metadata = {"id": "bench", "version": "1.0.0"}
        return read_workflow(
            {"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": metadata}
            | {"spec": {"nodes": nodes(shape, of_size), "outputs": {"done": True}}}
        )

    measured = document(size)
    assert measured.digest  # made once per document, as a registry does; not by every run
    times, processor = [], []
    async with DAGEngine() as engine:
        await engine.run(document(10))
        for _ in range(max(4, 5_000 // size)):
            gc.collect()  # what reading the document has left, and the runs before: not this one's
            began, used = time.perf_counter(), time.process_time()
            await engine.run(measured)
            times.append((time.perf_counter() - began) / size * 1e6)
            processor.append((time.process_time() - used) / size * 1e6)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "microseconds_per_node": times,
        "processor_microseconds_per_node": processor,
        "peak_mib": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
    }


def main() -> None:
    """Measure everything, or (for our own subprocesses) one case."""
    if sys.argv[1:2] == ["--case"]:
        json.dump(asyncio.run(_measure(sys.argv[2], int(sys.argv[3]))), sys.stdout)
    else:
        figure.main(figures, "What a node costs in memory, and how long a command takes to start.")


if __name__ == "__main__":
    main()
